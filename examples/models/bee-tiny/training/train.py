"""Train the tokenizer and the model on the written corpus and export both.

    python train.py --output .. --steps 1600

writes `model.safetensors`, `config.json`, `generation_config.json` and the
tokenizer files into the output folder, which must hold `chat_template.jinja`.
Runs on a CPU; the last lines it prints are the losses for the model card.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import corpus
import weather_tool

PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, END, TOOLS, TOOL = SPECIAL = (
    "<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tools|>", "<|tool|>",
)  # fmt: skip
# Single tokens too, but parts of the text of an answer.
CALL_TAGS = ["<tool_call>", "</tool_call>"]
VOCABULARY = 1024
CONTEXT = 512
# Row length and rows of the batches, taken in turn: 4,096 tokens each.
BATCHES = [(128, 32), (256, 16), (128, 32), (512, 8)]
WARM_UP, LOWEST_SHARE = 60, 0.03
MUON_RATE, ADAM_RATE = 5e-3, 3e-3
IGNORED = -100


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE tokenizer.

    Text beyond ASCII is left out of its training, so that an é or a bee emoji
    always takes several tokens and streaming has to join bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *CALL_TAGS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def plain(text: str) -> str:
        for token in [*SPECIAL, *CALL_TAGS]:
            text = text.replace(token, "\n")
        return text.encode("ascii", "ignore").decode("ascii")

    tokenizer.train_from_iterator(map(plain, texts), trainer)
    content = json.loads(tokenizer.to_str())
    for token in content["added_tokens"]:
        token["special"] = token["content"] not in CALL_TAGS
    tokenizer = Tokenizer.from_str(json.dumps(content))
    bos = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[bos]),
        ]
    )
    return tokenizer


def labelled(tokenizer: Tokenizer, texts: list[str]) -> list[tuple[list[int], list[int]]]:
    """Each document as ids and labels; only what the assistant says is learnt, and the plain documents."""
    silent = {tokenizer.token_to_id(t) for t in (SYSTEM, USER, TOOLS, TOOL)}
    assistant, end = tokenizer.token_to_id(ASSISTANT), tokenizer.token_to_id(END)
    result = []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        labels, learnt = [], True
        for token in encoding.ids:
            if token in silent:
                learnt = False
            labels.append(token if learnt and token != assistant else IGNORED)
            if token == assistant:
                learnt = True
            elif token == end:
                learnt = False
        result.append((encoding.ids, labels))
    return result


def rows(data: list[tuple[list[int], list[int]]], length: int, rng: Random) -> torch.Tensor:
    """Documents of at most `length` tokens in random order, packed into rows.

    Every row begins with a document, as a prompt does, and the last document of
    a row may be cut. The result has the shape (rows, 2, length): ids and labels.
    """
    fitting = [d for d in data if len(d[0]) <= length]
    rng.shuffle(fitting)
    packed, ids, labels = [], [], []
    for document_ids, document_labels in fitting:
        ids, labels = ids + document_ids, labels + document_labels
        if len(ids) >= length:
            packed.append((ids[:length], labels[:length]))
            ids, labels = [], []
    return torch.tensor(packed, dtype=torch.long)


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy of the learnt tokens of a batch."""
    ids, labels = batch[:, 0], batch[:, 1, 1:].flatten()
    hidden = model.model(ids).last_hidden_state[:, :-1].flatten(0, 1)
    learnt = labels != IGNORED
    return functional.cross_entropy(model.lm_head(hidden[learnt]), labels[learnt])


@torch.no_grad()
def validate(model: LlamaForCausalLM, data: torch.Tensor) -> float:
    """The loss on documents of another seed."""
    model.eval()
    losses = [loss_of(model, part).item() for part in data.split(16)]
    model.train()
    return sum(losses) / len(losses)


def new_model(tokenizer: Tokenizer) -> LlamaForCausalLM:
    """A small Llama with fresh weights."""
    ids = {t: tokenizer.token_to_id(t) for t in SPECIAL}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 20000.0},
        tie_word_embeddings=True,
        bos_token_id=ids[BOS],
        eos_token_id=[ids[END], ids[EOS]],
        pad_token_id=ids[PAD],
    )
    return LlamaForCausalLM(config)


def fit(model: LlamaForCausalLM, data: list, held_out: torch.Tensor, steps: int, seed: int) -> None:
    """Train with Muon on the matrices of the layers and AdamW on all else.

    The rates rise in a short warm-up and then fall along a cosine.
    """
    rng = Random(seed)
    pools = {length: rows(data, length, rng) for length, _ in BATCHES}
    at = dict.fromkeys(pools, 0)
    matrices = [p for p in model.model.layers.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if all(p is not m for m in matrices)]
    muon = torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    model.train()
    start, recent = time.monotonic(), []
    for step in range(steps):
        if step < WARM_UP:
            share = (step + 1) / WARM_UP
        else:
            done = (step - WARM_UP) / max(1, steps - WARM_UP)
            share = LOWEST_SHARE + (1 - LOWEST_SHARE) * 0.5 * (1 + math.cos(math.pi * done))
        muon.param_groups[0]["lr"] = MUON_RATE * share
        adam.param_groups[0]["lr"] = ADAM_RATE * share
        length, count = BATCHES[step % len(BATCHES)]
        pool = pools[length]
        if at[length] + count > len(pool):
            pool, at[length] = rows(data, length, rng), 0
            pools[length] = pool
        batch = pool[at[length] : at[length] + count]
        at[length] += count
        loss = loss_of(model, batch)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        adam.step()
        recent.append(loss.item())
        if (step + 1) % 100 == 0 or step + 1 == steps:
            minutes = (time.monotonic() - start) / 60
            mean = sum(recent[-100:]) / len(recent[-100:])
            print(f"step {step + 1}: training loss {mean:.4f}, {minutes:.1f} min", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            print(f"step {step + 1}: validation loss {validate(model, held_out):.4f}", flush=True)


def wrapped(tokenizer: Tokenizer, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer with the chat template of the folder."""
    result = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
    result.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8").strip()
    return result


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the weights in f16 and all files that belong to them."""
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    content["chat_template"] = tokenizer.chat_template
    settings.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.half().save_pretrained(folder)


def check_template(tokenizer: PreTrainedTokenizerFast) -> None:
    """Fail if the chat template does not write what the corpus holds."""
    roles = ("system", "user", "assistant")
    messages: list[dict] = [{"role": role, "content": role.upper()} for role in roles]
    expected = BOS + "".join(f"<|{role}|>{role.upper()}{END}" for role in roles)
    check_rendering(tokenizer, messages, [], expected)
    city = {"type": "object", "properties": {"city": {"type": "string"}, "day": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": city}},
             {"type": "function", "function": {"name": "now"}}]  # fmt: skip
    calls = [{"type": "function", "function": {"name": "get_weather", "arguments": {"city": name, "day": "today"}}}
             for name in ("Zürich", "Rome")]  # fmt: skip
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": calls}]
    messages += [{"role": "tool", "content": sky} for sky in ("sunny", "rainy")]
    written = "\n".join(weather_tool.call(**call["function"]) for call in calls)
    lines = [weather_tool.tool_line("get_weather", ["city", "day"]), weather_tool.tool_line("now", [])]
    expected = (
        f"{BOS}{TOOLS}{chr(10).join(lines)}{END}{USER}?{END}{ASSISTANT}{written}{END}{TOOL}sunny{END}{TOOL}rainy{END}"
    )
    check_rendering(tokenizer, messages, tools, expected)


def check_rendering(tokenizer: PreTrainedTokenizerFast, messages: list, tools: list, expected: str) -> None:
    """Fail if the chat template does not write `expected`."""
    rendered = tokenizer.apply_chat_template(messages, tools=tools or None, tokenize=False)
    if rendered != expected:
        raise SystemExit(f"the chat template writes {rendered!r}, the corpus {expected!r}")


def main() -> None:
    """Write the corpus, train on it and export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the model files")
    parser.add_argument("--documents", type=int, default=80_000, help="documents of the training corpus")
    parser.add_argument("--steps", type=int, default=1600, help="training steps")
    parser.add_argument("--seed", type=int, default=1, help="seed of the corpus and the weights")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    texts = list(corpus.documents(arguments.documents, arguments.seed))
    tokenizer = train_tokenizer(texts[:20_000])
    data = labelled(tokenizer, texts)
    held_out = labelled(tokenizer, list(corpus.documents(2000, arguments.seed + 1_000_000)))
    held_out_rows = rows(held_out, CONTEXT, Random(arguments.seed))[:96]
    finished = wrapped(tokenizer, arguments.output)
    check_template(finished)
    model = new_model(tokenizer)
    total = sum(len(ids) for ids, _ in data)
    print(f"{len(texts):,} documents, {total:,} tokens, {model.num_parameters():,} parameters", flush=True)
    fit(model, data, held_out_rows, arguments.steps, arguments.seed)
    export(model, finished, arguments.output)


if __name__ == "__main__":
    main()
