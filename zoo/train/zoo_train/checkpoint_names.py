# SPDX-License-Identifier: Apache-2.0
"""Between stacked parameters and Hugging Face's directories: names, config.json, tokenizer, generation_config.json."""
from __future__ import annotations

import json
from pathlib import Path

import torch

from .bpe import ByteLevelBpe
from .model import Parameters, parameter_shapes
from .safetensors_file import read_safetensors, write_safetensors
from .shapes import Shape
from .tokenizer import BEGIN_ID, END_ID, PAD_ID, save_tokenizer

ATTENTION_NAMES = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
                   "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm", "kv_a": "self_attn.kv_a_proj_with_mqa",
                   "kv_norm": "self_attn.kv_a_layernorm", "kv_b": "self_attn.kv_b_proj",
                   "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def _split(prefix: str, gate_up: torch.Tensor, down: torch.Tensor) -> dict[str, torch.Tensor]:
    gate, up = gate_up.chunk(2, dim=0)
    return {f"{prefix}.gate_proj.weight": gate, f"{prefix}.up_proj.weight": up, f"{prefix}.down_proj.weight": down}


def to_named(s: Shape, p: Parameters, bias: torch.Tensor | None, member: int) -> dict[str, torch.Tensor]:
    """One member's tensors, bf16; the selection bias f32. The head is tied: no lm_head."""
    mine = {name: w.detach()[member].to(torch.bfloat16) for name, w in p.items()}
    out = {"model.embed_tokens.weight": mine["embed"]}
    for layer in range(s.layers):
        at = f"model.layers.{layer}"
        for name, theirs in ATTENTION_NAMES.items():
            if name in mine:
                out[f"{at}.{theirs}.weight"] = mine[name][layer]
        moe = layer - s.dense_layers if s.moe_layers else -1
        if moe < 0:
            out |= _split(f"{at}.mlp", mine["gate_up"][layer], mine["down"][layer])
            continue
        assert bias is not None
        out[f"{at}.mlp.gate.weight"] = mine["router"][moe]
        out[f"{at}.mlp.gate.e_score_correction_bias"] = bias[moe].detach().float()
        for e in range(s.experts):
            out |= _split(f"{at}.mlp.experts.{e}", mine["experts_gate_up"][moe, e], mine["experts_down"][moe, e])
        out |= _split(f"{at}.mlp.shared_experts", mine["shared_gate_up"][moe], mine["shared_down"][moe])
    out["model.norm.weight"] = mine["final_norm"]
    return out


def from_named(s: Shape, tensors: dict[str, torch.Tensor]) -> tuple[Parameters, torch.Tensor | None]:
    """The inverse, in f32, G = 1."""
    t = {name: w.float() for name, w in tensors.items()}
    joined = lambda at: torch.cat((t[f"{at}.gate_proj.weight"], t[f"{at}.up_proj.weight"]))  # noqa: E731
    p: Parameters = {"embed": t["model.embed_tokens.weight"], "final_norm": t["model.norm.weight"]}
    dense = range(s.layers - s.moe_layers)
    moe = [f"model.layers.{i}.mlp" for i in range(s.layers - s.moe_layers, s.layers)]
    for name in parameter_shapes(s):
        if name in ATTENTION_NAMES:
            p[name] = torch.stack([t[f"model.layers.{i}.{ATTENTION_NAMES[name]}.weight"] for i in range(s.layers)])
    p["gate_up"] = torch.stack([joined(f"model.layers.{i}.mlp") for i in dense])
    p["down"] = torch.stack([t[f"model.layers.{i}.mlp.down_proj.weight"] for i in dense])
    bias = None
    if moe:
        experts = range(s.experts)
        p["router"] = torch.stack([t[f"{m}.gate.weight"] for m in moe])
        p["experts_gate_up"] = torch.stack([torch.stack([joined(f"{m}.experts.{e}") for e in experts]) for m in moe])
        p["experts_down"] = torch.stack(
            [torch.stack([t[f"{m}.experts.{e}.down_proj.weight"] for e in experts]) for m in moe])
        p["shared_gate_up"] = torch.stack([joined(f"{m}.shared_experts") for m in moe])
        p["shared_down"] = torch.stack([t[f"{m}.shared_experts.down_proj.weight"] for m in moe])
        bias = torch.stack([t[f"{m}.gate.e_score_correction_bias"] for m in moe])
    return {name: w[None] for name, w in p.items()}, bias


def config_of(s: Shape) -> dict:
    config = {"model_type": s.family, "hidden_size": s.hidden, "intermediate_size": s.feed_forward,
              "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
              "num_key_value_heads": s.heads if s.mla else s.kv_heads, "hidden_act": "silu",
              "max_position_embeddings": s.context, "rms_norm_eps": s.epsilon, "rope_theta": s.rope_theta,
              "rope_scaling": None, "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True,
              "vocab_size": s.vocab, "bos_token_id": BEGIN_ID, "eos_token_id": END_ID, "pad_token_id": PAD_ID,
              "torch_dtype": "bfloat16", "initializer_range": 0.02, "use_cache": True}
    if s.family == "qwen3":
        return {"architectures": ["Qwen3ForCausalLM"], **config, "head_dim": s.head_dim, "sliding_window": None,
                "use_sliding_window": False, "max_window_layers": s.layers}
    return {"architectures": ["DeepseekV3ForCausalLM"], **config, "q_lora_rank": None, "kv_lora_rank": s.kv_rank,
            "qk_nope_head_dim": s.nope_dim, "qk_rope_head_dim": s.rope_dim, "v_head_dim": s.value_dim,
            "rope_interleave": True, "n_routed_experts": s.experts, "num_experts_per_tok": s.top_k,
            "moe_intermediate_size": s.expert_ffn, "n_shared_experts": s.shared_experts, "moe_layer_freq": 1,
            "first_k_dense_replace": s.dense_layers, "n_group": 1, "topk_group": 1, "topk_method": "noaux_tc",
            "scoring_func": "sigmoid", "norm_topk_prob": True, "routed_scaling_factor": s.route_scale,
            "num_nextn_predict_layers": 0}


def write_model(folder: Path, s: Shape, p: Parameters, bias: torch.Tensor | None, member: int,
                tokenizer: ByteLevelBpe) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", to_named(s, p, bias, member))
    save_tokenizer(tokenizer, folder)
    generation = {"bos_token_id": BEGIN_ID, "eos_token_id": END_ID, "pad_token_id": PAD_ID, "do_sample": True,
                  "temperature": 0.7, "top_p": 0.95}
    for name, value in (("config.json", config_of(s)), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_model(folder: Path) -> tuple[Shape, Parameters, torch.Tensor | None]:
    shape = shape_of_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    return shape, *from_named(shape, read_safetensors(folder / "model.safetensors"))


def shape_of_config(config: dict) -> Shape:
    """The inverse of config_of."""
    common = {"family": config["model_type"], "hidden": config["hidden_size"], "layers": config["num_hidden_layers"],
              "heads": config["num_attention_heads"], "feed_forward": config["intermediate_size"],
              "vocab": config["vocab_size"], "context": config["max_position_embeddings"],
              "rope_theta": config["rope_theta"], "epsilon": config["rms_norm_eps"]}
    if config["model_type"] == "qwen3":
        shape = Shape(**common, head_dim=config["head_dim"], kv_heads=config["num_key_value_heads"])
    else:
        nope, rope = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
        shape = Shape(**common, head_dim=nope + rope, kv_rank=config["kv_lora_rank"], nope_dim=nope, rope_dim=rope,
                      value_dim=config["v_head_dim"], experts=config["n_routed_experts"],
                      top_k=config["num_experts_per_tok"], expert_ffn=config["moe_intermediate_size"],
                      shared_experts=config["n_shared_experts"], dense_layers=config["first_k_dense_replace"],
                      route_scale=config["routed_scaling_factor"])
    if config_of(shape) != config:
        raise ValueError("config.json says things that this program does not write")
    return shape
