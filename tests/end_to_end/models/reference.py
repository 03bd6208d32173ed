"""What llama.cpp says about the tokens of text.txt, for the tests of rbee's engine: reference.py MODEL OUTPUT.

For each token after the first: the logarithm of its probability after those before it, and the likeliest token in its
place. Needs the package xllamacpp.
"""

import json
import sys
import urllib.request
from pathlib import Path

import xllamacpp

POSITIONS = 2_000


def main(model: str, output: Path) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 4096
    params.n_parallel = 1
    server = xllamacpp.Server(params)

    def post(path: str, body: dict) -> dict:
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            server.listening_address + path, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    text = (Path(__file__).parent / "text.txt").read_text()
    tokens = post("/tokenize", {"content": text, "add_special": True})["tokens"][: POSITIONS + 1]
    chosen, likeliest = [], []
    for count in range(1, len(tokens)):
        body = {
            "prompt": tokens[:count],
            "n_predict": 1,
            "n_probs": 1,
            "temperature": 0,
            "samplers": ["temperature"],
            # The bias makes it choose the text's own token. The probabilities are those without the bias.
            "logit_bias": [[tokens[count], 100]],
        }
        [step] = post("/completion", body)["completion_probabilities"]
        assert step["id"] == tokens[count]
        chosen.append(round(step["logprob"], 4))
        likeliest.append(step["top_logprobs"][0]["id"])
    values = {
        "made_by": f"xllamacpp {xllamacpp.__version__}",
        "tokens": tokens,
        "logprobs": chosen,
        "likeliest": likeliest,
    }
    output.write_text(json.dumps(values, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
