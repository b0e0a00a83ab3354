# SPDX-License-Identifier: Apache-2.0
"""Writes families.json: what transformers makes of tiny random checkpoints of families with experts, latent attention or
sliding windows.

    pip install torch transformers safetensors numpy
    python tests/golden/make_families.py [case ..]    # the others, if some are named, stay as they are

Weights are not stored: each is a formula of a salt and its tensor's name, which the test computes too (tests/testing/formula.h), so
the same checkpoint can be written in every form. Per family, with the model's own number of experts per token and with
fewer: logits and routing at some positions of one prompt, and 24 greedy tokens. Written for transformers 5.24, whose
DeepSeek-V2 scales attention as the model's own code does.
"""
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

VOCAB = 264
TOKENS = [(37 * i + 11) % 256 for i in range(70)]
POSITIONS = [0, 31, 32, 45, 69]
GREEDY = 24
# Salts of the hashed names, where the family's own name gives a near tie in greedy decoding or in routing.
SALTS = {"qwen2_moe": "qwen2_moe_b", "deepseek_v3": "deepseek_v3_b", "deepseek_v3_plain": "deepseek_v3_plain_b",
         "mistral_window": "mistral_window_c", "qwen3_moe_window": "qwen3_moe_window_c", "gpt_oss": "gpt_oss_e"}
U64 = np.uint64


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def uniform(name, count):
    """splitmix64(hash of the name + i), its 24 upper bits in [0, 1)."""
    with np.errstate(over="ignore"):
        z = U64(fnv1a(name)) + (np.arange(count, dtype=U64) + U64(1)) * U64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
        z = z ^ (z >> U64(31))
    return (z >> U64(40)).astype(np.float64) / (1 << 24)


def formula(name, shape, amplitude, offset):
    """offset + amplitude (2 u - 1), cut to the upper 16 bits of a float, so that bf16 holds it."""
    values = (offset + amplitude * (2 * uniform(name, int(np.prod(shape))) - 1)).astype(np.float32)
    return torch.from_numpy((values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).reshape(shape))


def codes(name, shape, step):
    """step (floor(16 u) - 8): what bf16 holds, and Q4_0 with the scale `step`, a power of two."""
    values = step * (np.floor(16 * uniform(name, int(np.prod(shape)))) - 8)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])


def microscaled(name, shape, step):
    """Codes of 4-bit floats, times step / 2, step or 2 step for each 32 of a row: what MXFP4 holds, and bf16."""
    count = int(np.prod(shape))
    scales = step * 2.0 ** (np.floor(3 * uniform(name + ":scale", count // 32)) - 1)
    values = E2M1[np.floor(16 * uniform(name, count)).astype(int)] * np.repeat(scales, 32)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


class Manifest:
    def __init__(self):
        self.tensors = []

    def add(self, name, shape, amplitude, offset=0.0, count=0):
        entry = {"name": name, "shape": shape, "amplitude": amplitude, "offset": offset}
        if count:
            entry["count"] = count
        self.tensors.append(entry)

    def matrix(self, name, rows, columns, gain=1.0, count=0):
        step = 2.0 ** round(np.log2(gain * (3.0 / columns) ** 0.5 / 8))
        self.tensors.append({"name": name + ".weight", "shape": [rows, columns], "step": step, "count": count})

    def experts(self, name, count, rows, columns, gain):
        """[E, rows, columns], which transformers keeps with the last two turned."""
        step = 2.0 ** round(np.log2(gain * columns ** -0.5 / 4))
        self.tensors.append({"name": name, "shape": [count, rows, columns], "microscale": step})

    def norm(self, name, width):
        self.add(name + ".weight", [width], 0.25, 1.0)

    def write(self, folder, salt):
        tensors = {}
        for t in self.tensors:
            for i in range(max(t.get("count", 0), 1)):
                name = t["name"].replace("#", str(i))
                if "microscale" in t:
                    tensors[name] = microscaled(salt + name, t["shape"], t["microscale"]).transpose(1, 2).contiguous()
                elif "step" in t:
                    tensors[name] = codes(salt + name, t["shape"], t["step"])
                else:
                    tensors[name] = formula(salt + name, t["shape"], t["amplitude"], t["offset"])
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def attention(m, p, c, qkv_bias=False, norm_widths=None):
    d, h, g, dk = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    for name, rows in (("q", h * dk), ("k", g * dk), ("v", g * dk)):
        m.matrix(f"{p}self_attn.{name}_proj", rows, d)
        if qkv_bias:
            m.add(f"{p}self_attn.{name}_proj.bias", [rows], 0.3)
    m.matrix(p + "self_attn.o_proj", d, h * dk)
    if norm_widths:
        m.norm(p + "self_attn.q_norm", norm_widths[0])
        m.norm(p + "self_attn.k_norm", norm_widths[1])


def latent_attention(m, p, c):
    d, h, r = c["hidden_size"], c["num_attention_heads"], c["qk_rope_head_dim"]
    n, v, latent, rank = c["qk_nope_head_dim"], c["v_head_dim"], c["kv_lora_rank"], c["q_lora_rank"]
    if rank:
        m.matrix(p + "self_attn.q_a_proj", rank, d)
        m.norm(p + "self_attn.q_a_layernorm", rank)
        m.matrix(p + "self_attn.q_b_proj", h * (n + r), rank)
    else:
        m.matrix(p + "self_attn.q_proj", h * (n + r), d)
    m.matrix(p + "self_attn.kv_a_proj_with_mqa", latent + r, d)
    m.norm(p + "self_attn.kv_a_layernorm", latent)
    m.matrix(p + "self_attn.kv_b_proj", h * (n + v), latent)
    m.matrix(p + "self_attn.o_proj", d, h * v)


def mlp(m, p, d, f, names=("gate_proj", "up_proj", "down_proj"), count=0):
    m.matrix(p + names[0], f, d, count=count)
    m.matrix(p + names[1], f, d, count=count)
    m.matrix(p + names[2], d, f, count=count)


def build(c, is_moe, layer_attention, layer_moe):
    m, d = Manifest(), c["hidden_size"]
    m.matrix("model.embed_tokens", VOCAB, d, gain=3.0)
    m.norm("model.norm", d)
    m.matrix("lm_head", VOCAB, d, gain=2.0)
    for layer in range(c["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        m.norm(p + "input_layernorm", d)
        m.norm(p + "post_attention_layernorm", d)
        layer_attention(m, p)
        if is_moe(layer):
            layer_moe(m, p)
        else:
            mlp(m, p + "mlp.", d, c["intermediate_size"])
    return m


def gpt_oss(m, p, experts, d, f):
    m.add(p + "self_attn.sinks", [4], 2.0)
    m.add(p + "self_attn.o_proj.bias", [d], 0.3)
    m.matrix(p + "mlp.router", experts, d, gain=3.0)
    m.add(p + "mlp.router.bias", [experts], 0.5)
    # Wide enough that some activations meet their limit.
    m.experts(p + "mlp.experts.gate_up_proj", experts, 2 * f, d, gain=4.0)
    m.add(p + "mlp.experts.gate_up_proj_bias", [experts, 2 * f], 1.0)
    m.experts(p + "mlp.experts.down_proj", experts, d, f, gain=0.15)
    m.add(p + "mlp.experts.down_proj_bias", [experts, d], 0.3)


COMMON = {"vocab_size": VOCAB, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
          "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float32", "eos_token_id": 258}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1}


def families():
    def gqa(model_type, klass, heads, kv_heads, layers, **more):
        return {**COMMON, "model_type": model_type, "architectures": [klass], "hidden_size": 32, "head_dim": 8,
                "num_attention_heads": heads, "num_key_value_heads": kv_heads, "num_hidden_layers": layers, **more}

    c = gqa("mixtral", "MixtralForCausalLM", 4, 2, 3, intermediate_size=32, num_local_experts=8, num_experts_per_tok=4)

    def mixtral(m, p, c=c):
        m.matrix(p + "block_sparse_moe.gate", 8, 32, gain=3.0)
        mlp(m, p + "block_sparse_moe.experts.#.", 32, 32, ("w1", "w3", "w2"), count=8)

    yield "mixtral", c, build(c, lambda _: True, lambda m, p, c=c: attention(m, p, c), mixtral)

    def routed(m, p, e, f, gain=3.0):
        m.matrix(p + "mlp.gate", e, 32, gain=gain)
        mlp(m, p + "mlp.experts.#.", 32, f, count=e)

    for name, more in (("qwen3_moe", {"norm_topk_prob": True}),
                       ("qwen3_moe_mixed", {"norm_topk_prob": False, "decoder_sparse_step": 2, "mlp_only_layers": [1]})):
        c = gqa("qwen3_moe", "Qwen3MoeForCausalLM", 4, 1, 4, intermediate_size=64, num_experts=16, num_experts_per_tok=4,
                moe_intermediate_size=32, **{"decoder_sparse_step": 1, "mlp_only_layers": [], **more})
        sparse = (lambda layer: True) if name == "qwen3_moe" else (lambda layer: layer == 3)
        yield name, c, build(c, sparse, lambda m, p, c=c: attention(m, p, c, norm_widths=(8, 8)),
                             lambda m, p: routed(m, p, 16, 32))

    c = gqa("qwen2_moe", "Qwen2MoeForCausalLM", 4, 2, 3, intermediate_size=64, num_experts=12, num_experts_per_tok=4,
            moe_intermediate_size=32, shared_expert_intermediate_size=64, norm_topk_prob=False, decoder_sparse_step=1,
            mlp_only_layers=[], use_sliding_window=False)
    del c["head_dim"]

    def qwen2(m, p):
        routed(m, p, 12, 32)
        mlp(m, p + "mlp.shared_expert.", 32, 64)
        m.matrix(p + "mlp.shared_expert_gate", 1, 32)

    yield "qwen2_moe", c, build(c, lambda _: True, lambda m, p, c=c: attention(m, p, {**c, "head_dim": 8}, qkv_bias=True),
                                qwen2)

    c = gqa("olmoe", "OlmoeForCausalLM", 4, 4, 3, intermediate_size=32, num_experts=16, num_experts_per_tok=4,
            norm_topk_prob=False, clip_qkv=None)
    del c["head_dim"]
    yield "olmoe", c, build(c, lambda _: True, lambda m, p, c=c: attention(m, p, {**c, "head_dim": 8}, norm_widths=(32, 32)),
                            lambda m, p: routed(m, p, 16, 32))

    c = gqa("glm4_moe", "Glm4MoeForCausalLM", 4, 2, 3, intermediate_size=64, n_routed_experts=16, num_experts_per_tok=4,
            moe_intermediate_size=32, n_shared_experts=1, n_group=1, topk_group=1, first_k_dense_replace=1,
            norm_topk_prob=True, routed_scaling_factor=1.5, use_qk_norm=True, attention_bias=True,
            partial_rotary_factor=0.5, num_nextn_predict_layers=1)

    def glm(m, p):
        routed(m, p, 16, 32, gain=2.0)
        m.add(p + "mlp.gate.e_score_correction_bias", [16], 0.2)
        mlp(m, p + "mlp.shared_experts.", 32, 32)

    yield "glm4_moe", c, build(c, lambda layer: layer >= 1,
                               lambda m, p, c=c: attention(m, p, c, qkv_bias=True, norm_widths=(8, 8)), glm)

    def latent(model_type, klass, rank, groups, kept, k, shared, **more):
        return {**COMMON, "model_type": model_type, "architectures": [klass], "hidden_size": 32,
                "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64,
                "q_lora_rank": rank, "kv_lora_rank": 32, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16,
                "n_routed_experts": 16, "num_experts_per_tok": k, "n_shared_experts": shared, "moe_intermediate_size": 32,
                "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_group": groups, "topk_group": kept, **more}

    def deepseek(m, p, c, bias):
        routed(m, p, 16, 32, gain=2.0 if bias else 3.0)
        if bias:
            m.add(p + "mlp.gate.e_score_correction_bias", [16], 0.2)
        mlp(m, p + "mlp.shared_experts.", 32, 32 * c["n_shared_experts"])

    v2, v3 = ("deepseek_v2", "DeepseekV2ForCausalLM"), ("deepseek_v3", "DeepseekV3ForCausalLM")
    cases = [
        ("deepseek_v2_lite", latent(*v2, None, 1, 1, 4, 2, topk_method="greedy", routed_scaling_factor=1.0,
                                    norm_topk_prob=False, scoring_func="softmax",
                                    rope_scaling={**YARN, "mscale": 0.707, "mscale_all_dim": 0.707})),
        ("deepseek_v2", latent(*v2, 32, 4, 2, 4, 2, topk_method="group_limited_greedy", routed_scaling_factor=4.0,
                               norm_topk_prob=False, scoring_func="softmax")),
        ("deepseek_v3", latent(*v3, 32, 4, 2, 4, 1, topk_method="noaux_tc", routed_scaling_factor=2.5,
                               norm_topk_prob=True, scoring_func="sigmoid", num_nextn_predict_layers=1,
                               rope_scaling={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0})),
        ("deepseek_v3_plain", latent(*v3, None, 1, 1, 4, 1, topk_method="noaux_tc", routed_scaling_factor=1.5,
                                     norm_topk_prob=True, scoring_func="sigmoid")),
    ]
    for name, c in cases:
        yield name, c, build(c, lambda layer: layer >= 1, lambda m, p, c=c: latent_attention(m, p, c),
                             lambda m, p, c=c: deepseek(m, p, c, c["model_type"] == "deepseek_v3"))


    dense = lambda _: False
    c = gqa("mistral", "MistralForCausalLM", 4, 2, 3, intermediate_size=64, sliding_window=20)
    yield "mistral_window", c, build(c, dense, lambda m, p, c=c: attention(m, p, c), None)

    c = gqa("qwen2", "Qwen2ForCausalLM", 4, 2, 4, intermediate_size=64, use_sliding_window=True, sliding_window=33,
            max_window_layers=2)
    del c["head_dim"]
    yield "qwen2_window", c, build(c, dense, lambda m, p, c=c: attention(m, p, {**c, "head_dim": 8}, qkv_bias=True), None)

    c = gqa("qwen3_moe", "Qwen3MoeForCausalLM", 4, 1, 3, intermediate_size=64, num_experts=8, num_experts_per_tok=2,
            moe_intermediate_size=32, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
            use_sliding_window=True, sliding_window=17)
    yield "qwen3_moe_window", c, build(c, lambda _: True, lambda m, p, c=c: attention(m, p, c, norm_widths=(8, 8)),
                                       lambda m, p: routed(m, p, 8, 32))

    c = gqa("gpt_oss", "GptOssForCausalLM", 4, 2, 4, intermediate_size=32, num_local_experts=8, num_experts_per_tok=4,
            attention_bias=True, sliding_window=20, swiglu_limit=7.0,
            layer_types=["sliding_attention", "full_attention"] * 2,
            rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
                          "beta_slow": 1.0, "truncate": False})
    yield "gpt_oss", c, build(c, lambda _: True, lambda m, p, c=c: attention(m, p, c, qkv_bias=True),
                              lambda m, p: gpt_oss(m, p, 8, 32, 32))


def run(folder, config, top_k):
    changed = {"num_experts_per_tok": top_k} if top_k else {}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({**config, **changed}, f)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    routing = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: routing.append((out[1], out[2])))
             for m in model.modules() if type(m).__name__.endswith("Router")]
    assert bool(hooks) == bool(top_k)
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS]), use_cache=False).logits[0]
        for hook in hooks:
            hook.remove()
        layers = []
        for weights, ids in routing:
            assert ids.shape == (len(TOKENS), top_k), ids.shape
            rows = []
            for t in POSITIONS:
                order = torch.argsort(ids[t])
                rows.append({"experts": ids[t][order].tolist(),
                             "weights": [round(w, 6) for w in weights[t][order].tolist()]})
            layers.append(rows)
        tokens, margin = list(TOKENS), 1e9
        for _ in range(GREEDY):
            best = torch.topk(model(torch.tensor([tokens]), use_cache=False).logits[0, -1], 2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            tokens.append(best.indices[0].item())
    return {"top_k": top_k, "logits": [[round(x, 5) for x in logits[t].tolist()] for t in POSITIONS],
            "routing": layers, "greedy": tokens[len(TOKENS):], "margin": round(margin, 5)}


def main():
    torch.manual_seed(0)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "families.json")
    wanted, cases = set(sys.argv[1:]), []
    kept = {}
    if wanted:
        with open(path) as f:
            kept = {case["name"]: case for case in json.load(f)["cases"]}
    for name, config, manifest in families():
        if wanted and name not in wanted:
            if name in kept:
                cases.append(kept[name])
            continue
        folder = tempfile.mkdtemp()
        salt = SALTS.get(name, name) + ":"
        manifest.write(folder, salt)
        k = config.get("num_experts_per_tok", 0)
        runs = [run(folder, config, k), run(folder, config, k // 2)] if k else [run(folder, config, 0)]
        spread = np.std(runs[0]["logits"])
        used = {e for layer in runs[0]["routing"] for row in layer for e in row["experts"]}
        print(name, "spread", round(float(spread), 2), "margins", [r["margin"] for r in runs], "experts seen", len(used),
              "distinct greedy", len(set(runs[0]["greedy"])), file=sys.stderr)
        cases.append({"name": name, "salt": salt, "config": config, "tensors": manifest.tensors, "runs": runs})
        shutil.rmtree(folder)
    with open(path, "w") as f:
        f.write('{"prompt":' + json.dumps(TOKENS, separators=(",", ":")) + ',"positions":' + json.dumps(POSITIONS) +
                ',"cases":[\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")


if __name__ == "__main__":
    main()
