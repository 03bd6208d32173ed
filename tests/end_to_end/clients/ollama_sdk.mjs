// Ollama's official JavaScript client, as its users use it. OLLAMA_HOST names the server.

import assert from "node:assert/strict";
import { Ollama } from "ollama";

const client = new Ollama({ host: process.env.OLLAMA_HOST });
const model = "bee-tiny";
const messages = [{ role: "user", content: "Tell me about a flower." }];
const options = { num_predict: 8, seed: 7 };
const step = (name) => console.log("ok", name);

// The client only warns of lines that it cannot read.
console.warn = (...words) => assert.fail(words.join(" "));

const names = (await client.list()).models.map((one) => one.name);
assert.deepEqual(names, ["bee-tiny:latest", "caller:latest", "slow:latest", "vectors:latest"]);
const shown = await client.show({ model });
assert.equal(shown.details.family, "llama");
assert.ok(shown.model_info["llama.context_length"] >= 256);
assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
step("list, show, version");

const loaded = await client.generate({ model, prompt: "" });
assert.equal(loaded.done_reason, "load");
assert.ok((await client.ps()).models.some((one) => one.name === "bee-tiny:latest"));
step("load, ps");

const answer = await client.chat({ model, messages, options });
assert.equal(answer.done_reason, "length");
assert.equal(answer.eval_count, 8);
let said = "";
let last;
for await (const part of await client.chat({ model, messages, options, stream: true, keep_alive: "5m" })) {
  said += part.message.content;
  last = part;
}
assert.equal(said, answer.message.content);
assert.ok(last.done && last.total_duration > 0 && last.eval_duration > 0);
step("chat");

const tools = [{
  type: "function",
  function: {
    name: "visit",
    description: "Visits a flower.",
    parameters: { type: "object", required: ["flower"], properties: { flower: { type: "string" } } },
  },
}];
const history = [
  ...messages,
  { role: "assistant", content: "", tool_calls: [{ function: { name: "visit", arguments: { flower: "rose" } } }] },
  { role: "tool", tool_name: "visit", content: "nectar" },
];
assert.ok((await client.chat({ model, messages: history, tools, options })).message.content);
const calls = [];
for await (const part of await client.chat({ model: "caller", messages, tools, stream: true })) {
  calls.push(...(part.message.tool_calls ?? []).map((call) => call.function));
}
assert.deepEqual(calls, [{ index: 0, name: "visit", arguments: { flower: "rose", times: 2 } }]);
step("tools");

const format = { type: "object", properties: { color: { enum: ["red", "blue"] } }, required: ["color"] };
const described = await client.chat({ model, messages, format, think: false, options: { num_predict: 40, seed: 3 } });
assert.ok(["red", "blue"].includes(JSON.parse(described.message.content).color));
step("format");

const whole = await client.generate({ model, prompt: "Hi", options });
said = "";
for await (const part of await client.generate({ model, prompt: "Hi", options, stream: true })) said += part.response;
assert.equal(said, whole.response);
step("generate");

const { embeddings } = await client.embed({ model: "vectors", input: ["one", "two"] });
assert.equal(embeddings.length, 2);
const { embedding } = await client.embeddings({ model: "vectors", prompt: "one" });
assert.equal(embedding.length, embeddings[0].length);
step("embed");

const statuses = [];
for await (const part of await client.pull({ model, stream: true })) statuses.push(part.status);
assert.equal(statuses[0], "pulling manifest");
assert.equal(statuses.at(-1), "success");
await assert.rejects(client.delete({ model: "nobody" }), (error) => error.status_code === 404 && /nobody/.test(error.message));
await assert.rejects(client.copy({ source: model, destination: "other" }), /alias/);
await assert.rejects(client.chat({ model: "nobody", messages }), (error) => error.status_code === 404);
await assert.rejects(client.chat({ model, messages, options: { temperature: 9 } }), /temperature/);
step("pull, delete, errors");

const stream = await client.generate({ model: "slow", prompt: "Hi", options: { num_predict: 1000 }, stream: true });
for await (const part of stream) {
  assert.ok(!part.done);
  break;
}
stream.abort();
step("abort");
