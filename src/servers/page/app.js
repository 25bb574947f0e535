// The page: which view the address names, what the keys do, and the line about the process itself.
import { follow, json } from './api.js';
import { Targets, listPage } from './list.js';
import { start as startDemo } from './demo.js';
import { otherHolder } from './format.js';
import { glossaryPage } from './glossary.js';
import { workloadPage } from './workload.js';

const main = document.getElementById('main'), alert = document.getElementById('alert'), about = document.getElementById('process'), standby = document.getElementById('standby');
const targets = new Targets();
let view = null;

function route() {
  const parts = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  if (parts[0] === 'workload' && parts.length === 3) return workloadPage(parts[1], parts[2], () => { location.hash = '#/'; });
  if (parts[0] === 'glossary') return glossaryPage();
  return listPage(targets, (key) => { location.hash = `#/workload/${key}`; });
}

function show() {
  view?.leave();
  view = route();
  document.title = `${view.title} · podswell`;
  main.replaceChildren(view.page);
  main.focus({ preventScroll: true });
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem('podswell-theme', name);
  document.getElementById('theme').textContent = name === 'dark' ? 'Light' : 'Dark';
}

function otherTheme() {
  theme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
}

function connection(up, why) {
  alert.hidden = up;
  if (!up) alert.textContent = `No connection to podswell (${why}); what you see is old. Trying again.`;
}

// What a reader has to know who looks at a process that does not write.
function standing({ leader, lease }) {
  const other = otherHolder(lease);
  const words = leader ? '' : other
    ? `This process stands by: ${other} holds the lease, so this one writes nothing. What is shown here is what it would do.`
    : 'This process stands by: nobody holds the lease at the moment, so nothing is written. It takes the lease as soon as it can.';
  standby.hidden = !words;
  if (standby.textContent !== words) standby.textContent = words;
}

async function process() {
  try {
    const status = await json('v1/status');
    standing(status);
    const writes = status.leader ? 'writes' : 'stands by';
    about.textContent = `${status.version} · ${writes} · ${status.targets} workloads, ${status.attention} need a person` +
      (status.ready ? '' : ` · not ready: ${status.missing.join(', ')}`);
  } catch { /* The stream says that the connection is gone. */ }
  setTimeout(process, 2000);
}

addEventListener('hashchange', show);
addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches?.('input, textarea, select');
  if (typing && event.key === 'Escape') event.target.blur();
  if (typing) return;
  if (event.key === 'Enter' && event.target.matches?.('a, button, summary')) return;
  if (event.key === 'd') otherTheme();
  else if (view?.key(event)) event.preventDefault();
});
document.getElementById('theme').addEventListener('click', otherTheme);
theme(localStorage.getItem('podswell-theme') ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'));
show();
process();
follow('v1/stream', (body) => targets.told(body), connection, new AbortController().signal);
startDemo(document.getElementById('banner')).catch(() => {});
