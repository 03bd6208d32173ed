"""Batches with the official Python client, as its users write them."""

import json
import time

import openai
from openai import OpenAI

MODEL = "bee-tiny"
CHAT = "/v1/chat/completions"
client = OpenAI(max_retries=0)


def step(name):
    print("ok", name, flush=True)


def chat(**fields):
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "seed": 7, **fields}


def lines(bodies, url=CHAT):
    requests = [
        {"custom_id": f"request-{number}", "method": "POST", "url": url, "body": body}
        for number, body in enumerate(bodies)
    ]
    return "\n".join(json.dumps(request) for request in requests).encode()


def begin(bodies, url=CHAT):
    file = client.files.create(file=("requests.jsonl", lines(bodies, url)), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h", metadata={"job": "test"})


def ended(batch):
    until = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < until, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def results(file):
    return {line["custom_id"]: line for line in map(json.loads, client.files.content(file).text.splitlines())}


def refused(kind, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"not refused: {arguments} {named}")


# Files.
content = lines([chat()])
file = client.files.create(
    file=("requests.jsonl", content), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
)
assert (file.object, file.filename, file.bytes, file.purpose) == ("file", "requests.jsonl", len(content), "batch")
assert file.expires_at - file.created_at == 3600
assert client.files.wait_for_processing(file.id).status == "processed"
assert client.files.content(file.id).read() == content
assert [listed.id for listed in client.files.list(purpose="batch", limit=1)] == [file.id]
assert client.files.delete(file.id).deleted
refused(openai.NotFoundError, client.files.retrieve, file.id)
error = refused(openai.BadRequestError, client.files.create, file=("a", b"{}"), purpose="fine-tune")
assert error.param == "purpose", error.body
step("files")

# A batch of chats: the results are those of the route.
batch = begin([chat(), chat(n=2), chat(model="no-such-model")])
assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", CHAT)
assert batch.completion_window == "24h" and batch.metadata == {"job": "test"}
assert batch.expires_at - batch.created_at == 24 * 60 * 60
batch = ended(batch)
counts = batch.request_counts
assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 3, 2, 1), batch
assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
done = results(batch.output_file_id)
assert set(done) == {"request-0", "request-1"}
direct = client.chat.completions.create(**chat())
for name, choices in [("request-0", 1), ("request-1", 2)]:
    response = done[name]["response"]
    assert response["status_code"] == 200 and response["request_id"] and done[name]["error"] is None
    answer = openai.types.chat.ChatCompletion.model_validate(response["body"])
    assert len(answer.choices) == choices
    assert answer.choices[0].message == direct.choices[0].message
failed = results(batch.error_file_id)["request-2"]["response"]
assert failed["status_code"] == 404 and failed["body"]["error"]["code"] == "model_not_found", failed
listed = list(client.batches.list(limit=1))
assert listed[0] == batch
step("chats")

# Vectors and bare text.
batch = ended(begin([{"model": MODEL, "input": ["a", "b"]}], "/v1/embeddings"))
vectors = results(batch.output_file_id)["request-0"]["response"]["body"]["data"]
direct = client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="float").data
assert [vector["embedding"] for vector in vectors] == [vector.embedding for vector in direct]
batch = ended(begin([{"model": MODEL, "prompt": "a", "seed": 7}], "/v1/completions"))
text = results(batch.output_file_id)["request-0"]["response"]["body"]["choices"][0]["text"]
assert text == client.completions.create(model=MODEL, prompt="a", seed=7).choices[0].text
batch = ended(begin([{"model": MODEL, "input": "a", "max_output_tokens": 4}], "/v1/responses"))
response = results(batch.output_file_id)["request-0"]["response"]["body"]
assert client.responses.retrieve(response["id"]).output_text == response["output"][0]["content"][0]["text"]
step("endpoints")

# A file that is not valid.
file = client.files.create(file=("requests.jsonl", lines([chat()]) + b"\nnot json"), purpose="batch")
batch = ended(client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h"))
assert batch.status == "failed" and batch.output_file_id is None, batch
assert [(error.code, error.line) for error in batch.errors.data] == [("invalid_json_line", 2)]
error = refused(
    openai.NotFoundError, client.batches.create, input_file_id="file-0", endpoint=CHAT, completion_window="24h"
)
assert error.param == "input_file_id", error.body
step("not valid")

# Cancel.
batch = begin([chat(model="slow", max_tokens=1000)] * 3)
while client.batches.retrieve(batch.id).status == "validating":
    time.sleep(0.02)
refused(openai.ConflictError, client.files.delete, batch.input_file_id)
assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
batch = ended(batch)
assert batch.status == "cancelled" and batch.request_counts.completed == 0, batch
assert refused(openai.ConflictError, client.batches.cancel, batch.id).code == "conflict"
assert client.files.delete(batch.input_file_id).deleted
step("cancel")
