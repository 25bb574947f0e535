// What only the demo has: the sentence about what is real, and the switches for faults.
import { json } from './api.js';
import { element } from './format.js';

const EVERY_MS = 2000;

async function order(fault) {
  await fetch(`v1/demo/faults/${fault.name}?seconds=${fault.on ? 0 : 40}`, { method: 'POST' });
}

function panel(demo, refresh) {
  const buttons = demo.faults.map((fault) => element('button', {
    type: 'button', 'data-fault': fault.name, 'aria-pressed': String(fault.on), title: fault.on ? 'Mend it' : 'For 40 seconds',
    onclick: () => order(fault).then(refresh),
  }, fault.about));
  return [
    element('strong', {}, `Demo, seed ${demo.seed}. `),
    'Real: the controller, its decisions, its Kubernetes and Prometheus clients, this page. Played: the Kubernetes API, the pods, Prometheus and the load.',
    element('details', { open: true }, element('summary', {}, 'Break something for 40 s'), element('div', { class: 'faults' }, buttons)),
  ];
}

export async function start(banner) {
  const demo = await json('v1/demo');
  if (!demo) return;
  let opened = true, shown = '';
  banner.hidden = false;
  banner.addEventListener('toggle', (event) => { opened = event.target.open; }, true);
  const refresh = async () => {
    const now = await json('v1/demo').catch(() => null);
    if (!now || JSON.stringify(now.faults) === shown) return;
    shown = JSON.stringify(now.faults);
    const focused = document.activeElement?.dataset?.fault;
    banner.replaceChildren(...panel(now, refresh));
    banner.querySelector('details').open = opened;
    if (focused) banner.querySelector(`[data-fault="${focused}"]`)?.focus();
  };
  await refresh();
  setInterval(refresh, EVERY_MS);
}
