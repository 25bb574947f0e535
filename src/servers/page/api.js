// Asking the process. The token, where one is needed, lives as long as the tab.

const KEY = 'podswell-token';

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

let asking = null;

async function showDialog() {
  const dialog = document.getElementById('token'), field = document.getElementById('token-text');
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener('close', closed, { once: true }));
  sessionStorage.setItem(KEY, field.value.trim());
  field.value = '';
}

// Several requests may be refused at once; the person is asked once.
function askForToken() {
  asking ??= showDialog().finally(() => { asking = null; });
  return asking;
}

async function ask(path, options = {}) {
  for (;;) {
    const shown = sessionStorage.getItem(KEY);
    const answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers }, cache: 'no-store' });
    if (answer.status !== 401) return answer;
    // The person may have answered while this request was under way.
    if (sessionStorage.getItem(KEY) === shown) await askForToken();
  }
}

export async function json(path, options) {
  const answer = await ask(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(body.message ?? `status ${answer.status}`), { status: answer.status });
  return body;
}

export async function text(path, options) {
  const answer = await ask(path, options);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.text();
}

// Server-sent events by fetch, because EventSource cannot carry a token. Calls `told` with each event's
// data, `state(false)` while there is no connection, and tries again for ever until `signal` aborts.
export async function follow(path, told, state, signal) {
  let pause = 500;
  while (!signal.aborted) {
    try {
      const answer = await ask(path, { signal });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      state(true);
      pause = 500;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        rest += value;
        const parts = rest.split('\n\n');
        rest = parts.pop();
        for (const part of parts) {
          const data = part.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim());
          if (data.length) told(JSON.parse(data.join('\n')));
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      state(false, error.message);
      await new Promise((later) => setTimeout(later, pause));
      pause = Math.min(pause * 2, 5000);
    }
  }
}
