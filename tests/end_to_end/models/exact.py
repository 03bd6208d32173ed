"""Adds to the values of reference.py what the model says without any rounding: exact.py MODEL VALUES.

The transformers library decodes the weights to 32-bit floats and computes with them. Needs the packages transformers,
torch, gguf and accelerate.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

AT_ONCE = 100


def main(model: Path, path: Path) -> None:
    values = json.loads(path.read_text())
    tokens = values["tokens"]
    decoder = AutoModelForCausalLM.from_pretrained(
        model.parent, gguf_file=model.name, dtype=torch.float32
    )
    chosen, likeliest = [], []
    with torch.no_grad():
        states = decoder.model(torch.tensor([tokens[:-1]])).last_hidden_state[0]
        for first in range(0, len(tokens) - 1, AT_ONCE):
            logits = decoder.lm_head(states[first : first + AT_ONCE])
            logprobs = torch.log_softmax(logits.float(), -1)
            following = torch.tensor(tokens[first + 1 : first + 1 + AT_ONCE])
            chosen += logprobs.gather(1, following[:, None])[:, 0].tolist()
            likeliest += logprobs.argmax(-1).tolist()
    values["exact"] = {"logprobs": [round(x, 4) for x in chosen], "likeliest": likeliest}
    path.write_text(json.dumps(values, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
