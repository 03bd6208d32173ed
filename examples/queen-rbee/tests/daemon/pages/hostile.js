// A page that tries everything a page can do to the queen's routes, and reports what it could read.
const HERE = location.origin;
const attempts = { sent: 0, leaks: [] };

function count() { attempts.sent += 1; }

async function readable(what, url, options) {
  count();
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(5000), ...options });
    if (answer.type !== 'opaque' && answer.status !== 403) {
      attempts.leaks.push(`${what} ${url}: ${answer.status} ${(await answer.text()).slice(0, 200)}`);
    }
  } catch (error) {
    // Refused by the browser: nothing can be read.
  }
}

function form(url, method, kind, body) {
  count();
  return new Promise((done) => {
    const frame = document.createElement('iframe');
    frame.name = `frame-${attempts.sent}`;
    const form = document.createElement('form');
    Object.assign(form, { action: url, method, enctype: kind, target: frame.name });
    const field = document.createElement('input');
    Object.assign(field, { name: body, value: '' });
    form.append(field);
    document.body.append(frame, form);
    let loads = 0;
    frame.onload = () => { loads += 1; if (loads > 1 || frame.src === '') { done(); } };
    setTimeout(done, 1500);
    form.submit();
  });
}

function element(name, url) {
  count();
  return new Promise((done) => {
    const element = document.createElement(name);
    element.onload = element.onerror = done;
    setTimeout(done, 1500);
    element.src = url;
    document.body.append(element);
  });
}

function source(url) {
  count();
  return new Promise((done) => {
    const source = new EventSource(url);
    source.onmessage = (event) => attempts.leaks.push(`event of ${url}: ${event.data}`);
    source.onopen = () => { attempts.leaks.push(`stream of ${url} is open`); source.close(); done(); };
    source.onerror = () => { source.close(); done(); };
    setTimeout(() => { source.close(); done(); }, 1500);
  });
}

const BODIES = {
  '/v1/hives': { id: 'foreign', url: 'http://127.0.0.1:9' },
  '/v1/jobs': { model: 'bee-tiny', messages: [{ role: 'user', content: 'x' }], max_tokens: 2 },
  '/v1/chat/completions': { model: 'bee-tiny', messages: [{ role: 'user', content: 'x' }], max_tokens: 2 },
  '/v1/policy': { language: 'rhai', source: 'fn schedule(job, workers, hives) { reject("mine") }' },
};

async function attack(base, method, path) {
  const url = base + path;
  const body = JSON.stringify(BODIES[path] || {});
  const json = { 'content-type': 'application/json' };
  if (method === 'GET') {
    await readable('GET', url, {});
    await readable('GET without CORS', url, { mode: 'no-cors' });
    await Promise.all([element('img', url), element('script', url), source(url)]);
    return;
  }
  await readable(`${method} as text`, url, { method, body });
  await readable(`${method} as JSON`, url, { method, body, headers: json });
  if (method !== 'POST') { return; }
  await readable('POST without CORS', url, { method, body, mode: 'no-cors' });
  await readable('POST of nothing', url, { method, mode: 'no-cors' });
  count();
  navigator.sendBeacon(url, body);
  count();
  try { navigator.sendBeacon(url, new Blob([body], { type: 'application/json' })); } catch (error) { /* not allowed */ }
  await Promise.all([
    form(url, 'POST', 'text/plain', body),
    form(url, 'POST', 'application/x-www-form-urlencoded', body),
    form(url, 'POST', 'multipart/form-data', body),
  ]);
}

async function main() {
  const { bases, routes } = await (await fetch('/targets')).json();
  for (const base of bases.map((base) => base || HERE)) {
    for (const [method, path] of routes) { await attack(base, method, path); }
  }
  await fetch('/report', { method: 'POST', body: JSON.stringify(attempts) });
}

main().catch((error) => fetch('/report', { method: 'POST', body: JSON.stringify({ error: String(error), ...attempts }) }));
