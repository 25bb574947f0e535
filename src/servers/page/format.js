// How numbers, times and states read. Everything that users see goes through text nodes, never markup.

export function number(value) {
  if (value === null || value === undefined) return '?';
  const size = Math.abs(value);
  if (size >= 1e15) return value.toExponential(1);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return value.toFixed(digits).replace(/\.0+$/, '');
}

export function seconds(value) {
  if (value === null || value === undefined) return '?';
  if (value < 120) return `${Math.round(value * 10) / 10} s`;
  const minutes = Math.floor(value / 60);
  return minutes < 120 ? `${minutes} m` : `${Math.floor(minutes / 60)} h ${minutes % 60} m`;
}

export function clock(date) {
  return date.toLocaleTimeString([], { hour12: false });
}

// Icon, word and colour of the signal; the word alone says it all.
export function signal(state) {
  switch (state) {
    case 'fresh': return ['●', 'fresh', 'good'];
    case 'partial': return ['◐', 'partial', 'watch'];
    case 'lost': return ['○', 'lost', 'bad'];
    case 'starting': return ['◌', 'starting', 'quiet'];
    default: return ['–', 'none yet', 'quiet'];
  }
}

// What happens to the target, in one word: the gate if there is one, else what the decision does.
export function standing(item) {
  if (!item.managed) return ['observed', 'quiet'];
  if (item.gate) return [item.gate, 'watch'];
  if (item.panic) return ['panic', 'bad'];
  if (item.desired === null) return ['waiting', 'quiet'];
  if (item.desired > item.replicas) return ['raising', 'good'];
  if (item.desired < item.replicas) return ['lowering', 'good'];
  return ['steady', 'good'];
}

// Who holds the lease, if that is another process.
export function otherHolder(lease) {
  return lease?.holder && lease.holder !== lease.identity ? lease.holder : null;
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

export function download(name, type, text) {
  const link = element('a', { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

export function csv(rows) {
  const cell = (value) => {
    let text = value === null || value === undefined ? '' : String(value);
    // A leading sign would make a spreadsheet read a name as a formula.
    if (typeof value === 'string' && /^[=+\-@\t]/.test(text)) text = `'${text}`;
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(',')).join('\n') + '\n';
}
