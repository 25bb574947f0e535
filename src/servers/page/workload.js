// One workload: what is decided and why, its chart, each step of the decision, its settings.
import { json, text } from './api.js';
import { draw, legend } from './chart.js';
import { clock, csv, download, element, number, otherHolder, seconds, signal } from './format.js';
import { term } from './glossary.js';

const EVERY_MS = 1000, KEPT = 3000, GHOSTS_MS = 5000;

function fact(word, label, value) {
  return element('div', {}, element('dt', {}, term(word, label)), element('dd', {}, value));
}

function facts(body) {
  const made = body.decision;
  if (!made) return element('p', {}, 'No decision yet.');
  const [icon, word, colour] = signal(made.signal.state);
  const windows = made.windows;
  return element('dl', { class: 'facts' },
    fact('desired', 'desired', String(made.bounded)),
    fact('replicas', 'replicas', String(body.replicas)),
    fact('ready', 'ready', `${body.pods.ready}` + (body.pods.pending + body.pods.notReady ? ` (+${body.pods.pending + body.pods.notReady})` : '')),
    fact('stable window', `stable ${seconds(windows.stableWindowSeconds)}`, number(windows.stable)),
    fact('panic window', `panic ${seconds(windows.panicWindowSeconds)}`, number(windows.panic)),
    fact('target', `target per pod (${made.metric})`, number(made.target)),
    fact('signal', `signal: ${made.signal.source ?? 'none'}`, element('span', { class: `state ${colour}` }, element('span', { 'aria-hidden': 'true' }, icon), `${word}, ${seconds(made.signal.ageSeconds)} old`)),
    fact('covered', 'covered', `${windows.coveredSeconds} of ${seconds(windows.stableWindowSeconds)}`));
}

// The formula with its numbers, before any limit.
function demand(made) {
  const { stable, panic } = made.windows;
  if (!made.wants) return element('p', { class: 'quiet' }, 'Without data there is no demand to compute.');
  const wish = (value, wanted) => `ceil(${number(value)} / ${number(made.target)}) = ${number(wanted)}`;
  return element('p', { class: 'demand' },
    term('stable window', 'stable'), ` ${wish(stable, made.wants.stable)}, `,
    term('panic window', 'panic'), ` ${wish(panic, made.wants.panic)}, `, term('ready'), ` ${made.ready}`);
}

function waterfall(made) {
  if (!made.stages.length) return element('p', {}, `No limit applies: ${made.bounded}.`);
  const most = Math.max(1, ...made.stages.flatMap((stage) => [stage.before, stage.after]));
  const rows = made.stages.map((stage) => {
    const bar = element('span', { class: 'bar', 'aria-hidden': 'true' }, element('i'));
    bar.firstChild.style.width = `${(100 * stage.after) / most}%`;
    return element('tr', { class: stage.before === stage.after ? 'unchanged' : false },
      element('th', { scope: 'row' }, stage.stage),
      element('td', { class: 'number' }, `${stage.before} → ${stage.after}`),
      element('td', {}, bar),
      element('td', {}, stage.rule || 'no change'));
  });
  return element('table', { class: 'waterfall' },
    element('caption', { class: 'hidden' }, 'Each step of the decision, in order'),
    element('thead', {}, element('tr', {}, ['step', 'pods', '', 'rule'].map((name) => element('th', { scope: 'col' }, name)))),
    element('tbody', {}, rows));
}

function settings(body) {
  return element('table', { class: 'waterfall' },
    element('caption', { class: 'hidden' }, 'Settings in force and where each comes from'),
    element('tbody', {}, body.configuration.settings.map((setting) => element('tr', { class: setting.from === 'default' ? 'unchanged' : false },
      element('th', { scope: 'row' }, setting.name), element('td', {}, setting.value || '–'), element('td', {}, setting.from)))));
}

// What each pod said in the last round. The table is there only where pods are asked themselves.
function pods(table, target) {
  if (!table.scraped) return element('p', { class: 'quiet' }, 'The source tells one number for all pods.');
  if (table.ageSeconds === null) return element('p', { class: 'quiet' }, 'The next round tells what each pod says.');
  const share = (load) => (load === null || !target ? '' : `${Math.round((100 * load) / target)}%`);
  const said = (pod) => (pod.fault ? `${pod.fault}, ${pod.misses} in a row${pod.load === null ? '' : ', the last value counts'}` : 'answered');
  return element('div', { class: 'podtable' }, element('table', { class: 'waterfall', 'data-pods': String(table.items.length) },
    element('caption', { class: 'hidden' }, 'Ready pods and what each said in the last round'),
    element('thead', {}, element('tr', {}, ['pod', 'load', 'of target', 'last round'].map((name) => element('th', { scope: 'col' }, name)))),
    element('tbody', {}, table.items.map((pod) => element('tr', {},
      element('th', { scope: 'row' }, pod.name),
      element('td', { class: 'number' }, pod.load === null ? 'unknown' : number(pod.load)),
      element('td', { class: 'number' }, share(pod.load)),
      element('td', { class: pod.fault ? 'bad' : 'quiet' }, said(pod)))))));
}

function problems(body) {
  if (!body.problems.length) return null;
  return element('section', {}, element('h3', {}, 'To mend'), element('ul', {},
    body.problems.map((problem) => element('li', {}, element('strong', {}, problem.key), `: ${[problem.why, problem.fallback].filter(Boolean).join('; ')}. ${problem.hint}`))));
}

function lastWrite(write) {
  if (!write) return 'Nothing was written yet.';
  const status = write.status ? ` (status ${write.status})` : '';
  return `Last write: ${write.from} → ${write.replicas} at ${clock(new Date(write.at))}, ${write.outcome}${status}.`;
}

function points(items) {
  return items.map((item) => ({ ...item, time: Date.parse(item.at) }));
}

export function workloadPage(namespace, name, back) {
  const base = `v1/targets/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
  const said = element('p', { class: 'said', 'aria-live': 'polite' });
  const numbers = element('div', {}), chart = element('div', {}), steps = element('div', {}), rest = element('div', {});
  const words = element('pre', { class: 'explain', tabindex: '0' });
  const drawer = element('details', { ontoggle: () => refreshWords() }, element('summary', {}, 'The same in plain words (podswell explain)'), words);
  const podsHere = element('div', {});
  const podDrawer = element('details', { id: 'pods', ontoggle: () => refreshPods() }, element('summary', {}, 'Each pod'), podsHere);
  let history = [], timer = null, gone = false, sentence = '', target = null, ghosts = [], haunted = 0;

  async function refreshWords() {
    if (drawer.open) words.textContent = await text(`${base}/explain`).catch((error) => error.message);
  }

  // Asked only while the drawer is open: podswell keeps single pods' numbers only for those who look.
  async function refreshPods() {
    if (!podDrawer.open) return;
    const table = await json(`${base}/pods`).catch(() => null);
    if (table && !gone) podsHere.replaceChildren(pods(table, target));
  }

  // A process that stands by answers for no workload; its reader should hear that, not a status code.
  async function whyNot(error) {
    const other = error.status === 503 ? otherHolder((await json('v1/status').catch(() => ({}))).lease) : null;
    if (!other) return error.message;
    return `Another process holds the lease (${other}) and decides about ${namespace}/${name}. This one stands by: it writes nothing, ` +
      'and tells nothing of single workloads, until the lease is its own again. This page goes on by itself then.';
  }

  // Only the demo knows what others would have done; it computes that, so it is not asked each second.
  async function refreshGhosts() {
    if (document.body.dataset.demo === undefined || Date.now() - haunted < GHOSTS_MS) return;
    haunted = Date.now();
    const told = await json(`v1/demo/ghosts/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`).catch(() => null);
    ghosts = (told?.ghosts ?? []).map((ghost) => ({ ...ghost, points: points(ghost.points) }));
  }

  async function refresh() {
    refreshGhosts();
    try {
      const after = history.length ? `?after=${encodeURIComponent(history.at(-1).at)}` : '';
      const [body, more] = await Promise.all([json(base), json(`${base}/history${after}`)]);
      if (gone) return;
      history = history.concat(points(more.items)).slice(-KEPT);
      show(body);
    } catch (error) {
      const why = await whyNot(error);
      if (!gone && why !== sentence) said.textContent = sentence = why;
    }
    if (!gone) timer = setTimeout(refresh, EVERY_MS);
  }

  function show(body) {
    const made = body.decision;
    const now = made ? `${made.reason}: ${made.meaning}` + (made.gate ? ` Not written: ${made.gate}.` : '') : 'No decision yet.';
    if (now !== sentence) said.textContent = sentence = now;
    numbers.replaceChildren(facts(body), element('p', { class: 'quiet' }, lastWrite(body.lastWrite)));
    if (history.length > 1) chart.replaceChildren(draw(history, made?.metric ?? 'load', ghosts), legend(ghosts));
    else chart.replaceChildren(element('p', { class: 'quiet' }, 'The chart begins with the second decision.'));
    if (made) steps.replaceChildren(element('h3', {}, 'How it was decided'), demand(made), waterfall(made));
    const rivals = body.rivals.map((rival) => `${rival.kind} ${rival.name}`).join(', ');
    rest.replaceChildren(...[problems(body), rivals ? element('p', { class: 'bad' }, `Also scaled by: ${rivals}`) : null,
      element('details', {}, element('summary', {}, 'Settings in force'), settings(body))].filter(Boolean));
    target = made?.target ?? null;
    if (drawer.open) refreshWords();
    refreshPods();
  }

  // The settings' drawer stays as it was left.
  const opened = new Set();
  rest.addEventListener('toggle', (event) => { if (event.target.open) opened.add('settings'); else opened.delete('settings'); }, true);
  new MutationObserver(() => { if (opened.has('settings')) rest.querySelector('details')?.setAttribute('open', ''); }).observe(rest, { childList: true });

  const columns = ['at', 'stable', 'panic', 'target', 'ready', 'replicas', 'desired', 'panicking', 'signal', 'reason', 'gate'];
  const file = `${namespace}-${name}`;
  refresh();
  return {
    title: `${namespace}/${name}`,
    page: element('article', {},
      element('div', { class: 'tools' }, element('a', { href: '#/' }, '← all'), element('h2', {}, `${namespace}/${name}`),
        element('button', { type: 'button', onclick: () => download(`${file}.csv`, 'text/csv', csv([columns, ...history.map((point) => columns.map((column) => point[column]))])) }, 'CSV'),
        element('button', { type: 'button', onclick: () => download(`${file}.json`, 'application/json', JSON.stringify(history, null, 2)) }, 'JSON')),
      said, numbers, element('div', { class: 'panels' }, element('section', {}, chart), element('section', {}, steps, podDrawer, rest, drawer))),
    leave() { gone = true; clearTimeout(timer); },
    key(event) {
      if (event.key === 'Escape') { back(); return true; }
      return false;
    },
  };
}
