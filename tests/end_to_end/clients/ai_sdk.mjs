// Vercel's AI SDK, whose provider for OpenAI uses the Responses API.

import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
const model = openai("bee-tiny");
const step = (name) => console.log("ok", name);

const answer = await generateText({ model, prompt: "Hi", temperature: 0, maxOutputTokens: 4, maxRetries: 0 });
assert.ok(answer.text);
assert.equal(answer.usage.outputTokens, 4);
step("text");

const stream = streamText({ model, prompt: "Hi", temperature: 0, maxOutputTokens: 4, maxRetries: 0 });
let text = "";
for await (const part of stream.textStream) text += part;
assert.ok(text);
assert.equal((await stream.usage).outputTokens, 4);
step("stream");

// The second step names the items of the first one by their ids.
let visits = 0;
const visit = tool({
  description: "Visits a flower.",
  inputSchema: z.object({ flower: z.enum(["rose", "clover"]) }),
  execute: async ({ flower }) => {
    visits += 1;
    return `nectar of ${flower}`;
  },
});
const called = await generateText({
  model, prompt: "Visit a flower.", tools: { visit }, maxRetries: 0,
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  stopWhen: stepCountIs(2), providerOptions: { openai: { parallelToolCalls: false } }, maxOutputTokens: 120,
});
assert.equal(visits, 1);
assert.equal(called.steps.length, 2);
assert.ok(called.text);
step("tools");

const flower = await generateObject({
  model, prompt: "Describe a flower.", maxRetries: 0, maxOutputTokens: 120,
  schema: z.object({ color: z.enum(["red", "blue"]), petals: z.number().int().min(1).max(40) }),
});
assert.ok(["red", "blue"].includes(flower.object.color));
step("object");
