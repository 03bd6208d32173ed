"""Writes a Llama model in Hugging Face's layout as one GGUF file: to_gguf.py DIRECTORY FILE."""

import json
import sys
from pathlib import Path

import gguf
import numpy
from safetensors import safe_open

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def name_of(tensor: str) -> str:
    stem = tensor.removesuffix(".weight")
    if stem in TOP:
        return TOP[stem] + ".weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.weight"


def interleaved(weights: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Rotary embeddings turn halves of a head in one layout, and neighbors in the other."""
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, half, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def main(source: Path, target: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    out = gguf.GGUFWriter(target, "llama")
    out.add_name(source.name)
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_rope_dimension_count(config["head_dim"])
    out.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_vocab_size(config["vocab_size"])

    tokenizer = json.loads((source / "tokenizer.json").read_text())
    pieces = tokenizer["model"]["vocab"] | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    tokens = sorted(pieces, key=pieces.get)
    assert [pieces[token] for token in tokens] == list(range(config["vocab_size"]))
    kind = gguf.TokenType
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types([kind.CONTROL if n in special else kind.NORMAL for n in range(len(tokens))])
    out.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    out.add_bos_token_id(config["bos_token_id"])
    out.add_eos_token_id(config["eos_token_id"][0])
    out.add_pad_token_id(config["pad_token_id"])
    out.add_add_bos_token(True)
    out.add_chat_template((source / "chat_template.jinja").read_text())

    with safe_open(source / "model.safetensors", framework="numpy") as tensors:
        for tensor in tensors.keys():
            weights = tensors.get_tensor(tensor)
            if "q_proj" in tensor:
                weights = interleaved(weights, heads)
            elif "k_proj" in tensor:
                weights = interleaved(weights, kv_heads)
            # Vectors are added and multiplied in 32 bits.
            out.add_tensor(name_of(tensor), weights.astype("float32" if weights.ndim == 1 else "float16"))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
