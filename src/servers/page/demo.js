// What only the demo has: the sentence about what is real, the guided tour, the switches for faults and the
// scorecard.
import { json, text } from './api.js';
import { element, number } from './format.js';

const EVERY_MS = 2000, SCORE_MS = 5000, STEP = 'podswell-demo-step';

async function order(name, on) {
  await text(`v1/demo/faults/${name}?seconds=${on ? 40 : 0}`, { method: 'POST' });
}

function faults(demo, refresh) {
  return element('div', { class: 'faults' }, demo.faults.map((fault) => element('button', {
    type: 'button', 'data-fault': fault.name, 'aria-pressed': String(fault.on), title: `${fault.about}; ${fault.on ? 'click to mend it' : 'for 40 seconds'}`,
    onclick: () => order(fault.name, !fault.on).then(refresh),
  }, fault.name.replaceAll('-', ' '))));
}

function about(demo) {
  const speed = demo.speed > 1 ? `, speed ${demo.speed}: load, pods' start and annotated windows (none below 6 s) run ${demo.speed} times faster, podswell decides by the clock as ever` : '';
  const left = demo.scenarioLeftOut.length ? ` Of the scenario's file, ${demo.scenarioLeftOut.join(', ')} is left to podswell simulate.` : '';
  return element('p', {}, element('strong', {}, `Demo, seed ${demo.seed}${speed}. `),
    `Real: the controller, its decisions, its Kubernetes and Prometheus clients, this page. Played: the Kubernetes API, the pods, Prometheus and the load.${left}`);
}

// One step at a time, with what to look at, what to break and the same on the command line.
function tour(story, faultOf, refresh) {
  const box = element('div', { class: 'tour', role: 'group', 'aria-label': 'Guided tour' });
  const said = element('div', { 'aria-live': 'polite' }), buttons = element('div', { class: 'tools' });
  let at = Math.min(Math.max(Number(sessionStorage.getItem(STEP)) || 0, 0), story.length - 1);

  function go(to) {
    at = Math.min(Math.max(to, 0), story.length - 1);
    sessionStorage.setItem(STEP, String(at));
    if (story[at].look) location.hash = `#/workload/${story[at].look}`;
    else location.hash = '#/';
    show();
  }

  function show() {
    const step = story[at], fault = step.fault ? faultOf(step.fault) : null;
    said.replaceChildren(element('strong', {}, `${at + 1} of ${story.length}: ${step.title}. `), step.text, ' ', element('code', {}, step.command));
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.tour : null;
    buttons.replaceChildren(...[
      element('button', { type: 'button', 'data-tour': 'back', disabled: at === 0, title: 'The step before (p)', onclick: () => go(at - 1) }, '← Back'),
      element('button', { type: 'button', 'data-tour': 'next', disabled: at === story.length - 1, title: 'The next step (n)', onclick: () => go(at + 1) }, 'Next →'),
      step.look ? element('a', { href: `#/workload/${step.look}`, 'data-tour': 'look' }, `Look at ${step.look}`) : element('a', { href: '#/', 'data-tour': 'look' }, 'Look at the list'),
      fault ? element('button', { type: 'button', 'data-tour': 'break', 'aria-pressed': String(fault.on), onclick: () => order(fault.name, !fault.on).then(refresh) }, fault.on ? 'Mend it' : 'Do it, for 40 s') : null,
    ].filter(Boolean));
    if (focused) buttons.querySelector(`[data-tour="${focused}"]`)?.focus();
  }

  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.('input, textarea, select')) return;
    if (event.key === 'n') go(at + 1);
    if (event.key === 'p') go(at - 1);
  });
  box.append(said, buttons);
  show();
  return { box, show };
}

function scoreTable(workload) {
  const cells = (row) => [number(row.podSeconds), number(row.unmetPodSeconds), number(row.starts), number(row.most)];
  return element('table', { class: 'score', 'data-score': `${workload.namespace}/${workload.name}` },
    element('caption', {}, `${workload.namespace}/${workload.name}, ${workload.seconds} s`),
    element('thead', {}, element('tr', {}, ['', '', 'pod-seconds', 'unmet', 'starts', 'most'].map((name) => element('th', { scope: 'col' }, name)))),
    element('tbody', {}, workload.rows.map((row) => element('tr', { 'data-who': `${row.who}, ${row.how}` },
      element('th', { scope: 'row' }, row.who), element('td', {}, row.how), cells(row).map((cell) => element('td', { class: 'number' }, cell))))));
}

const STANDS = {
  kept: ['✓', 'kept', 'good'], broken: ['✗', 'broken', 'bad'], waiting: ['…', 'nothing to see yet', 'quiet'], elsewhere: ['–', 'not seen from here', 'quiet'],
};

// The promises as they stand: those that can be seen from outside, and where the others are proved.
function promises(list) {
  return element('ul', { class: 'promises' }, list.map((promise) => {
    const [icon, word, colour] = STANDS[promise.state] ?? STANDS.waiting;
    const more = promise.broken ? `: ${promise.broken}` : promise.state === 'kept' ? `, looked at ${number(promise.looks)} times` : promise.elsewhere ? `: ${promise.elsewhere}` : '';
    return element('li', { 'data-promise': promise.name, 'data-state': promise.state },
      element('span', { class: `state ${colour}` }, element('span', { 'aria-hidden': 'true' }, icon), promise.name),
      ` ${promise.promise}. `, element('span', { class: 'quiet' }, `${word}${more}`));
  }));
}

// Computed only while somebody looks.
function scorecard() {
  const body = element('div', { class: 'scores' });
  const how = element('p', { class: 'quiet' });
  const box = element('details', { id: 'score' }, element('summary', {}, 'Scorecard: beside an HPA on the same load'), body, how);
  const refresh = async () => {
    if (!box.open) return;
    const score = await json('v1/demo/score').catch(() => null);
    if (!score) return;
    how.textContent = score.how;
    if (score.workloads.length) body.replaceChildren(...score.workloads.map(scoreTable));
    else body.replaceChildren(element('p', {}, `There is a score after ${score.shortestSeconds} s.`));
  };
  box.addEventListener('toggle', refresh);
  setInterval(refresh, SCORE_MS);
  return box;
}

export async function start(banner) {
  const demo = await json('v1/demo');
  if (!demo) return;
  document.body.dataset.demo = '';
  let now = demo, shown = '';
  const kept = element('div', {});
  const held = element('details', { id: 'promises' }, element('summary', {}, 'Promises, and how they stand'), kept);
  const switches = element('details', { open: true }, element('summary', {}, 'Break something for 40 s'));
  const refresh = async () => {
    now = await json('v1/demo').catch(() => now);
    kept.replaceChildren(promises(now.promises));
    held.dataset.broken = String(now.promises.filter((promise) => promise.state === 'broken').length);
    if (JSON.stringify(now.faults) === shown) return;
    shown = JSON.stringify(now.faults);
    const focused = document.activeElement?.dataset?.fault;
    switches.replaceChildren(switches.firstChild, faults(now, refresh));
    if (focused) switches.querySelector(`[data-fault="${focused}"]`)?.focus();
    guide.show();
  };
  const guide = tour(demo.story, (name) => now.faults.find((fault) => fault.name === name), refresh);
  const guided = element('details', { open: true }, element('summary', {}, 'Guided tour'), guide.box);
  banner.hidden = false;
  banner.replaceChildren(about(demo), guided, switches, held, scorecard());
  await refresh();
  setInterval(refresh, EVERY_MS);
}
