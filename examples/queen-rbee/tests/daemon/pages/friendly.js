// A page that the queen allows: it uses the API as OpenAI's client in a browser does.
async function main() {
  const { bases, token } = await (await fetch('/targets')).json();
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    'x-stainless-lang': 'js',
    'idempotency-key': 'a-page',
  };
  const report = {};
  report.models = (await (await fetch(`${bases[0]}/v1/models`, { headers })).json()).data.map((model) => model.id);
  const body = { model: 'bee-tiny', messages: [{ role: 'user', content: 'Tell me about a flower.' }], max_tokens: 12, stream: true };
  const answer = await fetch(`${bases[0]}/v1/chat/completions`, { method: 'POST', headers, body: JSON.stringify(body) });
  report.status = answer.status;
  report.job = answer.headers.get('x-rbee-job-id');
  report.text = await answer.text();
  report.removed = (await fetch(`${bases[0]}/v1/jobs/${report.job}`, { method: 'DELETE', headers })).status;
  const bare = await fetch(`${bases[0]}/v1/jobs`);
  report.bare = [bare.status, (await bare.json()).error.code];
  await fetch('/report', { method: 'POST', body: JSON.stringify(report) });
}

main().catch((error) => fetch('/report', { method: 'POST', body: JSON.stringify({ error: String(error) }) }));
