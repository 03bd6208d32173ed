// The Responses API with the official JavaScript client, as its users use it.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = "bee-tiny";
const client = new OpenAI({ maxRetries: 0 });
const step = (name) => console.log("ok", name);

const input = "Visit a flower.";
const answer = await client.responses.create({ model, input, max_output_tokens: 4, temperature: 0 });
assert.ok(answer.output_text);
assert.equal(answer.usage.output_tokens, 4);
assert.equal((await client.responses.retrieve(answer.id)).output_text, answer.output_text);
step("create");

const runner = client.responses.stream({ model, input, max_output_tokens: 4, temperature: 0 });
let text = "";
const numbers = [];
for await (const event of runner) {
  numbers.push(event.sequence_number);
  if (event.type === "response.output_text.delta") text += event.delta;
}
assert.equal(text, answer.output_text);
assert.deepEqual(numbers, numbers.map((_, number) => number));
step("stream");

// The context of the model is short.
const Visit = z.object({ flower: z.enum(["rose", "clover"]) });
const visit = zodResponsesFunction({ name: "visit", parameters: Visit });
const called = await client.responses.parse({
  model, input, tools: [visit], tool_choice: "required", parallel_tool_calls: false,
});
const call = called.output.find((item) => item.type === "function_call");
assert.ok(["rose", "clover"].includes(call.parsed_arguments.flower), JSON.stringify(call));
const last = await client.responses.create({
  model, previous_response_id: called.id, max_output_tokens: 4,
  input: [{ type: "function_call_output", call_id: call.call_id, output: "nectar" }],
});
assert.ok(last.output_text);
step("function tools");

const Flower = z.object({ color: z.enum(["red", "blue"]), petals: z.number().int().min(1).max(40) });
const parsed = await client.responses.parse({
  model, input: "Describe a flower.", text: { format: zodTextFormat(Flower, "flower") },
});
assert.ok(Flower.parse(parsed.output_parsed));
step("parse");

const queued = await client.responses.create({ model, input, background: true, max_output_tokens: 4 });
assert.equal(queued.status, "queued");
const events = [];
for await (const event of await client.responses.retrieve(queued.id, { stream: true, starting_after: 2 })) {
  events.push(event);
}
assert.equal(events[0].sequence_number, 3);
assert.equal(events.at(-1).type, "response.incomplete");
const items = [];
for await (const item of client.responses.inputItems.list(queued.id)) items.push(item);
assert.equal(items[0].content[0].text, input);
assert.equal((await client.responses.cancel(queued.id)).status, "incomplete");
await client.responses.delete(queued.id);
await assert.rejects(client.responses.retrieve(queued.id), OpenAI.NotFoundError);
step("background");
