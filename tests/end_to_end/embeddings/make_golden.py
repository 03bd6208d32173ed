"""What the reference library makes of some texts: make_golden.py MODEL_DIRECTORY > all_minilm_l6_v2.json

Needs sentence-transformers, and with it torch; what it writes is committed, so that the tests need neither.
"""

import json
import sys

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers import __version__ as version
from transformers import __version__ as transformers_version

TEXTS = [
    "The bees visit the lily beside the path.",
    "Insects fly to a flower near the walkway.",
    "The central bank raised interest rates by half a percent.",
    "Bienen sammeln Nektar und Pollen.",
    "蜂は花から蜜を集める。 🐝",
    "x",
    "",
    "naïve café — “quoted” text,\twith\nodd   spaces and UPPER case; 3.14159, don't!",
    "A hive in winter is a warm ball of bees that eat what they stored in summer. " * 9,
    "honey " * 254,
]


def main() -> None:
    model = SentenceTransformer(sys.argv[1], device="cpu", model_kwargs={"dtype": torch.float32})
    assert model.max_seq_length == 256
    vectors = [model.encode([text], convert_to_numpy=True)[0] for text in TEXTS]
    cases = [
        {"text": text, "vector": [round(float(x), 6) for x in vector]}
        for text, vector in zip(TEXTS, vectors, strict=True)
    ]
    made_by = f"sentence-transformers {version}, transformers {transformers_version}, torch {torch.__version__}"
    print(json.dumps({"made_by": made_by, "cases": cases}, ensure_ascii=False))


if __name__ == "__main__":
    main()
