// Two charts on one time axis, drawn by hand as SVG: the load above, the replicas below.
import { clock, element, number } from './format.js';

const SPACE = 'http://www.w3.org/2000/svg';
const WIDTH = 900, LEFT = 48, RIGHT = 12, LOAD = { top: 14, height: 210 }, PODS = { top: 258, height: 130 }, HEIGHT = 412;

function shape(name, attributes, text) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A round number of about a quarter of `most`.
function step(most) {
  const rough = most / 4, size = 10 ** Math.floor(Math.log10(rough || 1));
  return [1, 2, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= rough) ?? size;
}

function axis(svg, panel, most, label) {
  const by = Math.max(step(most), label === 'pods' ? 1 : 0);
  const top = Math.max(Math.ceil(most / by) * by, by);
  const y = (value) => panel.top + panel.height * (1 - value / top);
  for (let value = 0; value <= top + by / 2; value += by) {
    svg.append(shape('line', { class: 'grid', x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    svg.append(shape('text', { x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end' }, number(value)));
  }
  svg.append(shape('text', { x: LEFT, y: panel.top - 4 }, label));
  return y;
}

// A path through the points that have a value; a hole in the data is a hole in the line.
function path(points, x, y, value, stepped) {
  let d = '', last = null;
  for (const point of points) {
    const now = value(point);
    if (now === null || now === undefined) { last = null; continue; }
    const px = x(point.time).toFixed(1), py = y(now).toFixed(1);
    if (last === null) d += `M${px},${py}`;
    else d += stepped ? `H${px}V${py}` : `L${px},${py}`;
    last = now;
  }
  return d;
}

function spans(points, test) {
  const found = [];
  let since = null;
  points.forEach((point, index) => {
    if (test(point) && since === null) since = point.time;
    if (since !== null && (!test(point) || index === points.length - 1)) {
      found.push([since, point.time]);
      since = null;
    }
  });
  return found;
}

function timeAxis(svg, x, from, to) {
  const count = 6;
  for (let index = 0; index <= count; index += 1) {
    const time = from + ((to - from) * index) / count;
    const anchor = index === 0 ? 'start' : index === count ? 'end' : 'middle';
    svg.append(shape('text', { x: x(time), y: HEIGHT - 4, 'text-anchor': anchor }, clock(new Date(time))));
  }
}

function most(points, values) {
  return points.reduce((high, point) => Math.max(high, ...values.map((value) => value(point) ?? 0)), 0);
}

const capacity = (point) => point.target * point.ready;

// `points`: oldest first, each with `time` in ms. `unit` says what the load is counted in. `ghosts`: what others
// would have run, each with `who` and points of its own.
export function draw(points, unit, ghosts = []) {
  const svg = shape('svg', { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img' });
  const from = points[0].time, to = Math.max(points.at(-1).time, from + 1000);
  const x = (time) => LEFT + ((WIDTH - LEFT - RIGHT) * (time - from)) / (to - from);
  for (const [name, test] of [['shade', (point) => point.panicking], ['gap', (point) => point.signal === 'lost']]) {
    for (const [start, end] of spans(points, test)) {
      for (const panel of [LOAD, PODS]) {
        svg.append(shape('rect', { class: name, x: x(start), width: Math.max(x(end) - x(start), 1.5), y: panel.top, height: panel.height }));
      }
    }
  }
  const load = axis(svg, LOAD, most(points, [(point) => point.stable, (point) => point.panic, capacity]), unit);
  const lines = ghosts.map((ghost) => within(ghost.points, from, to));
  const highest = Math.max(0, ...lines.flat().map((point) => point.replicas));
  const pods = axis(svg, PODS, Math.max(highest, most(points, [(point) => point.desired, (point) => point.ready, (point) => point.replicas])), 'pods');
  lines.forEach((line, index) => {
    const ghost = shape('path', { class: `ghost ghost${index}`, d: path(line, x, pods, (point) => point.replicas, true) });
    ghost.append(shape('title', {}, ghosts[index].about));
    svg.append(ghost);
  });
  svg.append(shape('path', { class: 'capacity', d: path(points, x, load, capacity, true) }));
  svg.append(shape('path', { class: 'panic', d: path(points, x, load, (point) => point.panic) }));
  svg.append(shape('path', { class: 'stable', d: path(points, x, load, (point) => point.stable) }));
  svg.append(shape('path', { class: 'ready', d: path(points, x, pods, (point) => point.ready, true) }));
  svg.append(shape('path', { class: 'desired', d: path(points, x, pods, (point) => point.desired, true) }));
  markers(svg, points, x);
  timeAxis(svg, x, from, to);
  describe(svg, points, unit, ghosts.map((ghost, index) => [ghost.who, lines[index].at(-1)?.replicas]));
  follow(svg, points, from, to);
  return svg;
}

function markers(svg, points, x) {
  let before = points[0].reason;
  for (const point of points) {
    if (point.reason === before) continue;
    const at = x(point.time), y = PODS.top + PODS.height;
    const marker = shape('path', { class: 'marker', d: `M${at},${y - 7}l4,7h-8z` });
    marker.append(shape('title', {}, `${clock(new Date(point.time))}: ${before} → ${point.reason}`));
    svg.append(marker);
    before = point.reason;
  }
}

// The part of a line from `from` to `to`, which keeps its value between its points.
function within(line, from, to) {
  const before = line.filter((point) => point.time <= from).at(-1), inside = line.filter((point) => point.time > from && point.time <= to);
  return before ? [{ ...before, time: from }, ...inside] : inside;
}

function describe(svg, points, unit, others) {
  const last = points.at(-1), told = others.filter(([, replicas]) => replicas !== undefined);
  const text = `Load (${unit}) and pods from ${clock(new Date(points[0].time))} to ${clock(new Date(last.time))}. ` +
    `Now: stable ${number(last.stable)}, panic ${number(last.panic)}, ready ${last.ready}, desired ${last.desired}, ${last.reason}.` +
    told.map(([who, replicas]) => ` Instead, ${who}: ${number(replicas)}.`).join('');
  svg.setAttribute('aria-label', text);
}

// The cursor: the numbers of the moment under the pointer.
function follow(svg, points, from, to) {
  const line = shape('line', { class: 'cursor', y1: LOAD.top, y2: PODS.top + PODS.height, x1: -9, x2: -9 });
  const said = shape('text', { x: LEFT + 8, y: LOAD.top + 248 - 14 });
  svg.append(line, said);
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const time = from + ((at - LEFT) / (WIDTH - LEFT - RIGHT)) * (to - from);
    const point = points.reduce((near, each) => (Math.abs(each.time - time) < Math.abs(near.time - time) ? each : near));
    const px = LEFT + ((WIDTH - LEFT - RIGHT) * (point.time - from)) / (to - from);
    line.setAttribute('x1', px);
    line.setAttribute('x2', px);
    said.textContent = `${clock(new Date(point.time))}  stable ${number(point.stable)}  panic ${number(point.panic)}  ` +
      `ready ${point.ready}  desired ${point.desired}  ${point.reason}`;
  });
  svg.addEventListener('pointerleave', () => { line.setAttribute('x1', -9); line.setAttribute('x2', -9); said.textContent = ''; });
}

export function legend(ghosts = []) {
  const entry = (name, text) => element('li', { class: name }, element('i'), text);
  return element('ul', { class: 'legend' },
    entry('stable', 'stable window'), entry('panic', 'panic window'), entry('capacity', 'target × ready pods'),
    entry('desired', 'desired'), entry('ready', 'ready'), entry('shade', 'panic mode'), entry('gap', 'signal lost'),
    element('li', {}, '▲ the reason changed'),
    ghosts.map((ghost, index) => element('li', { class: `ghost${index}`, title: ghost.about }, element('i'), `instead: ${ghost.who}`)));
}

// A small line of the last values, for the list.
export function sparkline(values) {
  const svg = shape('svg', { width: 90, height: 22, viewBox: '0 0 90 22', 'aria-hidden': 'true' });
  const high = Math.max(1, ...values);
  const points = values.map((value, index) => `${(index * 90) / Math.max(values.length - 1, 1)},${20 - (18 * value) / high}`);
  svg.append(shape('polyline', { points: points.join(' '), class: 'spark' }));
  return svg;
}
