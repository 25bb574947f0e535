// All workloads in one table. Only the rows in view are in the document, so that thousands stay usable.
import { csv, download, element, signal, standing } from './format.js';
import { sparkline } from './chart.js';
import { TERMS } from './glossary.js';

const ROW = 36, SPARE = 8, REMEMBERED = 60;

// What each is called, what it is sorted by, and the word of the glossary that explains it.
const COLUMNS = [
  ['Workload', (item) => item.key, null],
  ['Signal', (item) => ({ lost: 0, partial: 1, starting: 2, fresh: 3 })[item.signal] ?? 4, 'signal'],
  ['State', (item) => standing(item)[0], 'gate'],
  ['Load of target', (item) => item.utilization ?? -1, 'target'],
  ['Replicas', (item) => item.replicas, 'replicas'],
  ['History', null, 'replicas'],
  ['Reason', (item) => item.reason ?? '', 'reason'],
];

// The targets as the stream tells them; lives as long as the page.
export class Targets {
  constructor() {
    this.items = new Map();
    this.trails = new Map();
    this.listeners = new Set();
  }

  told({ items, removed, complete }) {
    if (complete) this.items.clear();
    for (const item of items) {
      const key = `${item.target.namespace}/${item.target.name}`;
      const bearing = item.targetValue * item.ready;
      const utilization = item.load === null ? null : bearing > 0 ? item.load / bearing : item.load > 0 ? Infinity : 0;
      this.items.set(key, { ...item, key, utilization });
    }
    for (const { namespace, name } of removed) this.items.delete(`${namespace}/${name}`);
    for (const [key, item] of this.items) {
      const trail = this.trails.get(key) ?? [];
      trail.push(item.replicas);
      if (trail.length > REMEMBERED) trail.shift();
      this.trails.set(key, trail);
    }
    for (const key of this.trails.keys()) if (!this.items.has(key)) this.trails.delete(key);
    for (const listener of this.listeners) listener();
  }
}

function row(item, trail, here, go) {
  const [icon, word, colour] = signal(item.signal);
  const [state, stateColour] = standing(item);
  const share = item.utilization;
  const bar = element('span', { class: share > 1 ? 'bar over' : 'bar', 'aria-hidden': 'true' }, element('i'));
  bar.firstChild.style.width = `${Math.min(share ?? 0, 1) * 100}%`;
  const percent = share === null ? 'unknown' : share === Infinity ? 'no pod' : `${Math.round(share * 100)}%`;
  const most = item.maxScale === 0 ? '∞' : item.maxScale;
  const to = item.desired !== null && item.desired !== item.replicas ? ` → ${item.desired}` : '';
  return element('tr', { class: here ? 'here' : false, 'data-key': item.key, onclick: () => go(item.key) },
    element('td', {}, element('a', { href: `#/workload/${item.key}` }, item.key),
      item.attention ? element('span', { class: 'bad', title: 'needs a person' }, ' !', element('span', { class: 'hidden' }, ' needs attention')) : null),
    element('td', {}, element('span', { class: `state ${colour}` }, element('span', { 'aria-hidden': 'true' }, icon), word)),
    element('td', { class: stateColour }, state),
    element('td', {}, bar, ` ${percent}`),
    element('td', {}, `${item.replicas}${to}`, element('span', { class: 'quiet' }, `  of ${item.minScale}–${most}`)),
    element('td', {}, sparkline(trail ?? [item.replicas])),
    element('td', {}, item.reason ?? ''));
}

export function listPage(targets, go) {
  const view = { filter: '', column: 0, down: false, cursor: -1, shown: [] };
  const filter = element('input', { type: 'search', id: 'filter', placeholder: 'Filter: name, state, reason', 'aria-label': 'Filter workloads' });
  const count = element('output', {});
  const body = element('tbody', {});
  const head = element('tr', {}, COLUMNS.map(([name, value, word], index) => element('th', { scope: 'col', title: TERMS[word] },
    value ? element('button', { type: 'button', onclick: () => sort(index) }, name) : name)));
  const table = element('table', { class: 'list' }, element('caption', { class: 'hidden' }, 'Workloads and what podswell does with them'), element('thead', {}, head), body);
  const scroll = element('div', { class: 'scroll', tabindex: '0', 'aria-label': 'Workloads', role: 'region', onscroll: () => paint() }, table);

  function choose() {
    const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const value = COLUMNS[view.column][1];
    view.shown = [...targets.items.values()]
      .filter((item) => words.every((word) => `${item.key} ${item.signal} ${standing(item)[0]} ${item.reason}`.toLowerCase().includes(word)))
      .sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const order = x < y ? -1 : x > y ? 1 : a.key < b.key ? -1 : 1;
        return view.down ? -order : order;
      });
    count.textContent = view.shown.length === targets.items.size
      ? `${targets.items.size} workloads`
      : `${view.shown.length} of ${targets.items.size} workloads`;
    table.setAttribute('aria-rowcount', String(view.shown.length + 1));
    [...head.children].forEach((cell, index) => {
      if (index === view.column) cell.setAttribute('aria-sort', view.down ? 'descending' : 'ascending');
      else cell.removeAttribute('aria-sort');
    });
  }

  // On paper nobody scrolls: there all rows are in the document.
  let printing = false;
  const before = () => { printing = true; paint(); };
  const after = () => { printing = false; update(); };
  addEventListener('beforeprint', before);
  addEventListener('afterprint', after);

  function paint() {
    const first = printing ? 0 : Math.max(0, Math.floor(scroll.scrollTop / ROW) - SPARE);
    const fits = printing ? view.shown.length : Math.ceil((scroll.clientHeight || 600) / ROW) + 2 * SPARE;
    const rows = view.shown.slice(first, first + fits);
    const space = () => element('tr', { 'aria-hidden': 'true' }, element('td', { class: 'spacer', colspan: COLUMNS.length }));
    const above = space(), below = space();
    above.firstChild.style.height = `${first * ROW}px`;
    below.firstChild.style.height = `${Math.max(0, view.shown.length - first - rows.length) * ROW}px`;
    const focused = document.activeElement?.closest?.('tr')?.dataset.key;
    body.replaceChildren(above, ...rows.map((item, index) => row(item, targets.trails.get(item.key), first + index === view.cursor, go)), below);
    if (focused) body.querySelector(`tr[data-key="${CSS.escape(focused)}"] a`)?.focus({ preventScroll: true });
    if (!targets.items.size) body.replaceChildren(element('tr', {}, element('td', { colspan: COLUMNS.length }, 'No workload carries an annotation autoscaling.knative.dev/* yet.')));
  }

  // What is on paper does not change any more.
  function update() {
    if (printing) return;
    choose();
    paint();
  }
  function sort(index) {
    view.down = view.column === index ? !view.down : false;
    view.column = index;
    update();
  }
  function move(by) {
    view.cursor = Math.max(0, Math.min(view.shown.length - 1, view.cursor + by));
    const top = view.cursor * ROW;
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    if (top + 2 * ROW > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + 2 * ROW - scroll.clientHeight;
    paint();
  }

  filter.addEventListener('input', () => { view.filter = filter.value; view.cursor = -1; update(); });
  const exported = () => [...view.shown].map(({ target, signal: heard, replicas, ready, desired, load, targetValue, reason, gate, problems }) =>
    [target.namespace, target.name, heard, replicas, ready, desired, load, targetValue, reason, gate, problems]);
  const header = ['namespace', 'name', 'signal', 'replicas', 'ready', 'desired', 'load', 'target', 'reason', 'gate', 'problems'];
  const page = element('div', {},
    element('div', { class: 'tools' }, filter, count,
      element('button', { type: 'button', onclick: () => download('podswell.csv', 'text/csv', csv([header, ...exported()])) }, 'CSV'),
      element('button', { type: 'button', onclick: () => download('podswell.json', 'application/json', JSON.stringify(view.shown, null, 2)) }, 'JSON')),
    scroll);
  targets.listeners.add(update);
  requestAnimationFrame(update);
  return {
    page,
    title: 'Workloads',
    leave() {
      targets.listeners.delete(update);
      removeEventListener('beforeprint', before);
      removeEventListener('afterprint', after);
    },
    key(event) {
      if (event.key === '/') { filter.focus(); return true; }
      if (event.key === 'j' || event.key === 'ArrowDown') { move(1); return true; }
      if (event.key === 'k' || event.key === 'ArrowUp') { move(-1); return true; }
      if (event.key === 'Enter' && view.shown[view.cursor]) { go(view.shown[view.cursor].key); return true; }
      return false;
    },
  };
}

