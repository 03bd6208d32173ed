"""Lets most requests name a model that is there: else nearly all of them would end at that."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 4:
        body["model"] = "bee-tiny"
    return body
