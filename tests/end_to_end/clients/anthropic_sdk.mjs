// Anthropic's official JavaScript client, as its users write it.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const model = "bee-tiny";
const client = new Anthropic({ maxRetries: 0 });
const messages = [{ role: "user", content: "Tell me about a flower." }];
const visit = {
  name: "visit",
  description: "Visits a flower.",
  input_schema: {
    type: "object",
    properties: { flower: { enum: ["rose", "clover"] } },
    required: ["flower"],
    additionalProperties: false,
  },
};
const tool_choice = { type: "any", disable_parallel_tool_use: true };
const step = (name) => console.log("ok", name);

const answer = await client.messages.create({ model, max_tokens: 12, messages, temperature: 0 });
assert.equal(answer.content[0].type, "text");
step("create");

const { input_tokens } = await client.messages.countTokens({ model, messages });
assert.equal(input_tokens, answer.usage.input_tokens + answer.usage.cache_read_input_tokens);
step("countTokens");

let text = "";
const stream = client.messages.stream({ model, max_tokens: 12, messages, temperature: 0 });
stream.on("text", (delta) => (text += delta));
const whole = await stream.finalMessage();
assert.equal(text, answer.content[0].text);
assert.equal(whole.content[0].text, text);
assert.equal(whole.stop_reason, answer.stop_reason);
step("stream");

const called = await client.messages
  .stream({ model, max_tokens: 120, messages, tools: [visit], tool_choice })
  .finalMessage();
assert.equal(called.stop_reason, "tool_use");
const [call] = called.content;
assert.equal(call.name, "visit");
assert.ok(["rose", "clover"].includes(call.input.flower), JSON.stringify(call));
const next = await client.messages.create({
  model,
  max_tokens: 12,
  tools: [visit],
  tool_choice: { type: "none" },
  messages: [
    ...messages,
    { role: "assistant", content: called.content },
    { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "nectar" }] },
  ],
});
assert.equal(next.content[0].type, "text");
step("tools");

let visits = 0;
const run = async ({ flower }) => {
  visits += 1;
  return `nectar of a ${flower}`;
};
const runner = client.beta.messages.toolRunner({
  model,
  max_tokens: 120,
  messages,
  tools: [{ ...visit, run, parse: (input) => input }],
  tool_choice,
  max_iterations: 2,
});
for await (const message of runner) assert.equal(message.stop_reason, "tool_use");
assert.ok(visits >= 1);
step("tool runner");

const refused = client.messages.create({ model, max_tokens: 0, messages });
await assert.rejects(refused, (error) => {
  assert.ok(error instanceof Anthropic.BadRequestError, String(error));
  assert.ok(error.message.includes("max_tokens is 0"), error.message);
  assert.ok(error.requestID);
  return true;
});
step("errors");
