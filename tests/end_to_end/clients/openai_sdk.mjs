// The official JavaScript client, as its users use it.

import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const model = "bee-tiny";
const messages = [{ role: "user", content: "Hi" }];
const client = new OpenAI({ maxRetries: 0 });
const root = client.baseURL.replace(/\/v1$/, "");
const step = (name) => console.log("ok", name);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// No slot is taken any more.
async function quiet() {
  const until = Date.now() + 5000;
  // Without the token the answer would only say that the server is up.
  const headers = { authorization: `Bearer ${client.apiKey}` };
  for (;;) {
    const health = await (await fetch(`${root}/health`, { headers })).json();
    if (health.jobs_running === 0 && health.jobs_waiting === 0) return;
    assert.ok(Date.now() < until, JSON.stringify(health));
    await sleep(20);
  }
}

async function refused(kind, fields) {
  try {
    await client.chat.completions.create({ model, messages, ...fields });
  } catch (error) {
    assert.ok(error instanceof kind, `${error}`);
    return error;
  }
  assert.fail(`not refused: ${JSON.stringify(fields)}`);
}

const answer = await client.chat.completions.create({ model, messages, max_tokens: 5, seed: 7 });
const text = answer.choices[0].message.content;
assert.equal(text.trim().split(" ").length, 5);
assert.equal(answer.choices[0].finish_reason, "length");
assert.equal(answer.usage.completion_tokens, 5);
assert.ok(answer._request_id);
step("chat");

const stream = await client.chat.completions.create({
  model, messages, max_tokens: 5, seed: 7, stream: true, stream_options: { include_usage: true },
});
let [said, usage] = ["", null];
for await (const chunk of stream) {
  said += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(said, text);
assert.equal(usage.completion_tokens, 5);
const runner = client.chat.completions.stream({ model, messages, max_tokens: 5, seed: 7 });
assert.equal((await runner.finalChatCompletion()).choices[0].message.content, text);
step("stream");

const likely = await client.chat.completions.create({
  model, messages, max_tokens: 5, seed: 7, logprobs: true, top_logprobs: 2,
});
const content = likely.choices[0].logprobs.content;
assert.equal(content.map((token) => token.token).join(""), text);
assert.ok(content.every((token) => token.top_logprobs.length === 2 && token.logprob < 0));
step("log probabilities");

const completion = await client.completions.create({ model, prompt: "a", max_tokens: 3, seed: 7 });
assert.equal(completion.choices[0].text.trim().split(" ").length, 3);
const vectors = await client.embeddings.create({ model, input: ["one", "two"] });
assert.deepEqual(vectors.data.map((vector) => vector.embedding.length), [8, 8]);
const floats = await client.embeddings.create({ model, input: "one", encoding_format: "float" });
assert.ok(Math.abs(floats.data[0].embedding[0] - vectors.data[0].embedding[0]) < 1e-6);
const names = [];
for await (const model of client.models.list()) names.push(model.id);
assert.ok(names.includes("bee-tiny") && names.includes("slow"));
const long = "hf:bees/tiny@main::file=bee.gguf";
assert.equal((await client.models.retrieve(long)).id, long);
step("completions, embeddings, models");

assert.equal((await refused(OpenAI.BadRequestError, { temperature: 3 })).param, "temperature");
assert.equal((await refused(OpenAI.BadRequestError, { logit_bias: { 1: 1 } })).param, "logit_bias");
assert.equal((await refused(OpenAI.NotFoundError, { model: "no-such-model" })).code, "model_not_found");
await assert.rejects(new OpenAI({ apiKey: "wrong".repeat(10), maxRetries: 0 }).models.list(), OpenAI.AuthenticationError);
step("errors");

const limit = await refused(OpenAI.RateLimitError, { model: "limited" });
assert.equal(limit.headers.get("retry-after"), "1");
await client.chat.completions.create({ model: "limited", messages, max_tokens: 1 });
const began = Date.now();
await new OpenAI({ maxRetries: 2 }).chat.completions.create({ model: "limited", messages, max_tokens: 1 });
assert.ok(Date.now() - began >= 950, "it came back too early");
step("rate limit");

const broken = await client.chat.completions.create({ model: "faulty", messages, stream: true });
await assert.rejects(async () => { for await (const _ of broken); }, /as scripted/);
step("error in a stream");

const slow = { model: "slow", messages, max_tokens: 1000 };
await assert.rejects(client.chat.completions.create(slow, { timeout: 300 }), OpenAI.APIConnectionTimeoutError);
await quiet();
const aborted = new AbortController();
setTimeout(() => aborted.abort(), 300);
await assert.rejects(client.chat.completions.create(slow, { signal: aborted.signal }), OpenAI.APIUserAbortError);
await quiet();
const cut = await client.chat.completions.create({ ...slow, stream: true });
for await (const _ of cut) break;
await quiet();
step("timeout and abort");

// A batch, and another one that is cancelled. This client sends the file before its purpose, and a cancellation without
// a content type.
async function batch(body) {
  const url = "/v1/chat/completions";
  const line = JSON.stringify({ custom_id: "a", method: "POST", url, body: { model, messages, ...body } });
  const file = await client.files.create({ file: await toFile(Buffer.from(line), "in.jsonl"), purpose: "batch" });
  return client.batches.create({ input_file_id: file.id, endpoint: url, completion_window: "24h" });
}
async function ended({ id }) {
  for (const until = Date.now() + 60_000; ; await sleep(50)) {
    const now = await client.batches.retrieve(id);
    if (["completed", "cancelled"].includes(now.status)) return now;
    assert.ok(Date.now() < until, JSON.stringify(now));
  }
}
const done = await ended(await batch({ max_tokens: 5, seed: 7 }));
const result = JSON.parse(await (await client.files.content(done.output_file_id)).text());
assert.equal(result.response.body.choices[0].message.content, text);
const stopped = await batch({ model: "slow", max_tokens: 1000 });
await client.batches.cancel(stopped.id);
assert.equal((await ended(stopped)).status, "cancelled");
await quiet();
step("batches");
