"""Lets most requests name a model that is there, and none ask for what cannot be done in time, or unload a model."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict):
        return
    if isinstance(body.get("model"), str) and len(body["model"]) % 4:
        body["model"] = "bee-tiny"
    # Without a prompt, 0 unloads the model that the other requests need.
    if "keep_alive" in body:
        body["keep_alive"] = "5m"
    # A request that misses it is answered with 504, as it should be.
    for clock in ("deadline_ms", "timeout_ms"):
        if isinstance(body.get(clock), (int, float)) and 0 < body[clock] < 60_000:
            body[clock] = 60_000
    # The worker of the test writes as many tokens as it may, and no request may take long.
    for limit in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if isinstance(body.get(limit), (int, float)) and body[limit] > 1_000:
            body[limit] = 1_000
