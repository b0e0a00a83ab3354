# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/quantized/: tiny random checkpoints in every quantised format, as published ones lie in their files,
with what transformers computes on the dequantised weights in float64.

    pip install torch transformers safetensors numpy compressed-tensors
    python3 tests/golden/make_quantized.py [case ..]

Weights come from the files' own tensors: AWQ is unpacked with AutoAWQ's reverse order of nibbles, GPTQ as AutoGPTQ's
Python fallback does it (shift, mask, zero point plus one in the first version, scales[g_idx]), compressed-tensors by the
package of that name, FP8 by torch's float8_e4m3fn times its block's scale. Packing goes the other way round and is
checked against the codes that went in.
"""
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "quantized"
VOCAB = 96
PROMPT = [1, 17, 80, 33, 5, 9, 61, 2, 44, 44, 7, 90, 13, 28, 71, 3, 66, 50, 12, 8, 21, 95, 40, 6, 19, 88, 30, 4, 59, 11,
          73, 26, 64, 15, 37, 92, 10, 53, 47, 84]  # crosses a page of 32 tokens
POSITIONS = [0, 15, 31, 32, 39]
SCORED_FROM = 20
GREEDY = 24
MARGIN = 0.004  # of every greedy choice


def pack(fields, bits):
    """[.., n] -> [.., n bits / 32] int32, the first field lowest."""
    per_word = 32 // bits
    fields = fields.astype(np.uint64).reshape(*fields.shape[:-1], -1, per_word)
    words = (fields << (np.arange(per_word, dtype=np.uint64) * np.uint64(bits))).sum(-1, dtype=np.uint64)
    return words.astype(np.uint32).view(np.int32)


def unpack(words, bits):
    """[.., n] int32 -> [.., n, 32 / bits]."""
    shifts = torch.arange(0, 32, bits)
    return torch.bitwise_and(torch.bitwise_right_shift(torch.from_numpy(words)[..., None], shifts), (1 << bits) - 1)


class Format:
    """A way to quantise. linear() -> (tensors of the module, float64 weight [N, K])."""
    config = {}

    def __init__(self, group=32, bits=4):
        self.group, self.bits = group, bits

    def codes(self, rng, n, k, std):
        """Codes, zero points and half-precision scales; values of about `std`."""
        top = (1 << self.bits) - 1
        groups = -(-k // self.group) if self.group > 0 else 1
        q = np.clip(np.round(rng.normal(top / 2, top / 5, (n, k))), 0, top).astype(np.int64)
        z = rng.integers(top // 2 - top // 6, top // 2 + 2 + top // 6, (n, groups))
        s = std / (top / 5) * rng.uniform(0.7, 1.3, (n, groups))
        return q, z, s

    def group_of(self, k):
        return np.arange(k) // self.group if self.group > 0 else np.zeros(k, np.int64)


class Awq(Format):
    def __init__(self, group):
        super().__init__(group)
        self.config = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm",
                       "backend": "autoawq", "modules_to_not_convert": None}

    def linear(self, rng, n, k, std):
        q, z, s = self.codes(rng, n, k, std)
        z.flat[0], z.flat[-1] = 0, 15
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        lay = lambda x: pack(x.reshape(x.shape[0], -1, 8)[:, :, order].reshape(x.shape), 4)
        scales = torch.from_numpy(s.T.copy()).half()
        tensors = {"qweight": lay(q.T), "qzeros": lay(z.T), "scales": scales}
        back = [0, 4, 1, 5, 2, 6, 3, 7]
        restore = lambda words: unpack(words, 4)[:, :, back].reshape(words.shape[0], -1).double()
        codes, zeros = restore(tensors["qweight"]), restore(tensors["qzeros"])
        assert (codes.numpy() == q.T).all() and (zeros.numpy() == z.T).all()
        g = self.group
        w = (codes - zeros.repeat_interleave(g, 0)[:k]) * scales.double().repeat_interleave(g, 0)[:k]
        return tensors, w.T


class Gptq(Format):
    def __init__(self, group, bits=4, version=1, desc_act=False, sym=False, g_idx=True, scale_dtype=torch.float16):
        super().__init__(group, bits)
        self.version, self.desc_act, self.sym, self.g_idx, self.dtype = version, desc_act, sym, g_idx, scale_dtype
        self.config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": desc_act, "sym": sym,
                       "damp_percent": 0.01, "true_sequential": True, "model_file_base_name": "model",
                       "checkpoint_format": "gptq" if version == 1 else "gptq_v2"}

    def linear(self, rng, n, k, std):
        q, z, s = self.codes(rng, n, k, std)
        if self.sym:
            z[:] = 1 << (self.bits - 1)
        elif self.group > 0:
            z.flat[0], z.flat[-1] = (1, 16) if self.version == 1 else (0, 15)
        group_of = self.group_of(k)
        if self.desc_act:
            rng.shuffle(group_of)
        scales = torch.from_numpy(s.T.copy()).to(self.dtype)
        tensors = {"qweight": pack(q, self.bits).T.copy(), "scales": scales,
                   "qzeros": pack(z.T - (1 if self.version == 1 else 0), self.bits)}
        if self.g_idx:
            tensors["g_idx"] = group_of.astype(np.int32)
        zeros = unpack(tensors["qzeros"], self.bits).reshape(scales.shape).double() + (1 if self.version == 1 else 0)
        codes = unpack(tensors["qweight"], self.bits).permute(0, 2, 1).reshape(k, n).double()
        assert (codes.numpy() == q.T).all() and (zeros.numpy() == z.T).all()
        index = torch.from_numpy(group_of)
        return tensors, (scales.double()[index] * (codes - zeros[index])).T


class Fp8(Format):
    """block: weight_scale_inv per 128 x 128; tensor and row: weight_scale."""

    def __init__(self, kind, compressed=False):
        super().__init__()
        self.kind = kind
        if compressed:
            strategy = {"row": "channel", "tensor": "tensor"}[kind]
            self.config = compressed_config("float-quantized", {
                "num_bits": 8, "type": "float", "symmetric": True, "strategy": strategy, "dynamic": False,
                "group_size": None, "block_structure": None, "actorder": None, "observer": "minmax"},
                {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True})
        else:
            self.config = {"quant_method": "fp8", "activation_scheme": "dynamic" if kind == "block" else "static",
                           "fmt": "e4m3"}
            self.config["weight_block_size"] = [128, 128] if kind == "block" else None

    def linear(self, rng, n, k, std):
        rows, columns = {"block": (128, 128), "tensor": (n, k), "row": (1, k)}[self.kind]
        # Spread over the whole range of e4m3, subnormal numbers among them.
        w8 = torch.from_numpy(rng.normal(0, 40, (n, k))).to(torch.float8_e4m3fn)
        w8.view(torch.uint8)[0, :4] = torch.tensor([0x01, 0x87, 0x7e, 0x80], dtype=torch.uint8)
        shape = (-(-n // rows), -(-k // columns))
        scales = torch.from_numpy(std / 40 * rng.uniform(0.7, 1.3, shape)).float()
        full = scales.double().repeat_interleave(rows, 0)[:n].repeat_interleave(columns, 1)[:, :k]
        if self.kind == "block":
            tensors = {"weight": w8, "weight_scale_inv": scales}
        elif self.kind == "row":
            scales = scales.bfloat16()
            full = scales.double().expand(n, k)
            tensors = {"weight": w8, "weight_scale": scales}
        else:
            tensors = {"weight": w8, "weight_scale": scales.reshape(())}
            if self.config["quant_method"] == "fp8":
                tensors["input_scale"] = torch.tensor(0.013)
        return tensors, w8.double() * full


def compressed_config(form, weights, activations=None):
    return {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
            "kv_cache_scheme": None, "global_compression_ratio": None, "sparsity_config": {}, "transform_config": {},
            "version": "0.12.2",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": activations,
                                          "output_activations": None, "format": form}}}


class Packed(Format):
    def __init__(self, group, bits=4, symmetric=True, ordered=False):
        super().__init__(group, bits)
        self.symmetric, self.ordered = symmetric, ordered
        self.weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": False, "observer": "minmax",
                        "strategy": "group" if group > 0 else "channel", "group_size": group if group > 0 else None,
                        "actorder": "group" if ordered else None, "block_structure": None, "observer_kwargs": {}}
        self.config = compressed_config("pack-quantized", self.weights)

    def linear(self, rng, n, k, std):
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
        q, z, s = self.codes(rng, n, k, std)
        half = 1 << (self.bits - 1)
        if self.symmetric:
            z[:] = half
        signed = lambda x: torch.from_numpy(x - half).to(torch.int8)
        scales = torch.from_numpy(s).bfloat16()
        tensors = {"weight_packed": pack_to_int32(signed(q), self.bits), "weight_scale": scales,
                   "weight_shape": torch.tensor([n, k])}
        zeros = torch.zeros(scales.shape)
        if not self.symmetric:
            tensors["weight_zero_point"] = pack_to_int32(signed(z), self.bits, packed_dim=0).contiguous()
            zeros = unpack_from_int32(tensors["weight_zero_point"], self.bits, torch.Size(scales.shape), packed_dim=0)
        group_of = self.group_of(k)
        if self.ordered:
            rng.shuffle(group_of)
            tensors["weight_g_idx"] = torch.from_numpy(group_of).int()
        codes = unpack_from_int32(tensors["weight_packed"], self.bits, torch.Size([n, k]))
        index = torch.from_numpy(group_of)
        return tensors, (codes.double() - zeros.double()[:, index]) * scales.double()[:, index]


class Checkpoint:
    """Tensors as stored, and the same dequantised."""

    def __init__(self, form, seed, gain):
        self.form, self.rng, self.gain = form, np.random.default_rng(seed), gain
        self.stored, self.dense = {}, {}

    def plain(self, name, value):
        value = torch.from_numpy(value).bfloat16()
        self.stored[name], self.dense[name] = value, value.float()

    def norm(self, name, width):
        self.plain(name + ".weight", 1 + 0.2 * self.rng.standard_normal(width))

    def linear(self, name, rows, columns, gain=None, quantised=True):
        std = (gain or self.gain) / columns ** 0.5
        if not quantised:
            return self.plain(name + ".weight", std * self.rng.standard_normal((rows, columns)))
        tensors, dense = self.form.linear(self.rng, rows, columns, std)
        for key, value in tensors.items():
            value = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
            self.stored[f"{name}.{key}"] = value.contiguous()
        self.dense[name + ".weight"] = dense.float().contiguous()

    def mlp(self, name, hidden, width):
        self.linear(name + ".gate_proj", width, hidden)
        self.linear(name + ".up_proj", width, hidden)
        self.linear(name + ".down_proj", hidden, width)


COMMON = {"vocab_size": VOCAB, "num_hidden_layers": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
          "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
          "tie_word_embeddings": False}


def dense_model(model_type, klass, hidden=64, width=128, heads=2, zero_biases=False, **more):
    config = {**COMMON, "model_type": model_type, "architectures": [klass], "hidden_size": hidden, "head_dim": 32,
              "intermediate_size": width, "num_attention_heads": heads, "num_key_value_heads": 1, **more}

    def layer(c, p):
        d, h = hidden, heads * 32
        for name, rows in (("q", h), ("k", 32), ("v", 32)):
            c.linear(f"{p}self_attn.{name}_proj", rows, d)
            if model_type == "qwen2":
                c.plain(f"{p}self_attn.{name}_proj.bias", 0.3 * c.rng.standard_normal(rows))
        if zero_biases:
            c.stored[p + "self_attn.o_proj.bias"] = torch.zeros(d, dtype=torch.float16)
        c.linear(p + "self_attn.o_proj", d, h)
        if model_type == "qwen3":
            c.norm(p + "self_attn.q_norm", 32)
            c.norm(p + "self_attn.k_norm", 32)
        c.mlp(p + "mlp", d, width)

    return config, lambda c, p, i: layer(c, p)


def moe_model():
    config = {**COMMON, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 64,
              "head_dim": 32, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1,
              "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True,
              "decoder_sparse_step": 1, "mlp_only_layers": []}

    def layer(c, p, i):
        for name, rows in (("q", 64), ("k", 32), ("v", 32)):
            c.linear(f"{p}self_attn.{name}_proj", rows, 64)
        c.linear(p + "self_attn.o_proj", 64, 64)
        c.norm(p + "self_attn.q_norm", 32)
        c.norm(p + "self_attn.k_norm", 32)
        c.linear(p + "mlp.gate", 4, 64, gain=3.0, quantised=False)
        for e in range(4):
            c.mlp(f"{p}mlp.experts.{e}", 64, 32)

    return config, layer


def latent_model(quantised_attention=True):
    config = {**COMMON, "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 64,
              "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 32,
              "kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
              "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 32,
              "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_group": 2, "topk_group": 1, "topk_method": "noaux_tc",
              "routed_scaling_factor": 2.5, "norm_topk_prob": True, "scoring_func": "sigmoid",
              "num_nextn_predict_layers": 1}

    def layer(c, p, i):
        for name, rows, columns in (("q_a_proj", 32, 64), ("q_b_proj", 96, 32), ("kv_a_proj_with_mqa", 48, 64),
                                    ("kv_b_proj", 128, 32), ("o_proj", 64, 64)):
            c.linear(f"{p}self_attn.{name}", rows, columns, quantised=quantised_attention)
        c.norm(p + "self_attn.q_a_layernorm", 32)
        c.norm(p + "self_attn.kv_a_layernorm", 32)
        if i == 0:
            return c.mlp(p + "mlp", 64, 96)
        c.linear(p + "mlp.gate", 4, 64, gain=2.0, quantised=False)
        bias = torch.from_numpy(0.2 * c.rng.standard_normal(4)).float()
        c.stored[p + "mlp.gate.e_score_correction_bias"] = c.dense[p + "mlp.gate.e_score_correction_bias"] = bias
        for e in range(4):
            c.mlp(f"{p}mlp.experts.{e}", 64, 32)
        c.mlp(p + "mlp.shared_experts", 64, 32)

    return config, layer


LLAMA, QWEN2, QWEN3 = (("llama", "LlamaForCausalLM"), ("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM"))
CASES = {
    "awq": (Awq(64), dense_model(*QWEN2)),
    "awq_moe": (Awq(32), moe_model()),
    "gptq_sym": (Gptq(64, sym=True), dense_model(*LLAMA, zero_biases=True)),
    "gptq_desc_act": (Gptq(32, desc_act=True), dense_model(*QWEN3)),
    "gptq_v2": (Gptq(-1, version=2, g_idx=False, scale_dtype=torch.bfloat16), dense_model(*LLAMA, hidden=128, heads=4, num_hidden_layers=1)),
    "gptq_8bit": (Gptq(-1, bits=8), dense_model(*QWEN2, width=96, num_hidden_layers=1)),
    "gptq_latent": (Gptq(32, desc_act=True, version=2), latent_model()),
    "fp8_block": (Fp8("block"), dense_model(*QWEN3, width=200, num_hidden_layers=1)),
    "fp8_tensor": (Fp8("tensor"), dense_model("mistral", "MistralForCausalLM", width=96, num_hidden_layers=1,
                                             sliding_window=None)),
    "fp8_latent": (Fp8("block"), latent_model()),
    "packed": (Packed(32), dense_model(*QWEN3)),
    "packed_asym": (Packed(64, symmetric=False), dense_model(*LLAMA, width=192)),
    "packed_g_idx": (Packed(32, symmetric=False, ordered=True), dense_model(*QWEN2, width=96)),
    "packed_8bit": (Packed(-1, bits=8), dense_model(*LLAMA, width=96, num_hidden_layers=1)),
    "packed_experts": (Packed(32), latent_model(quantised_attention=False)),
    "compressed_fp8": (Fp8("row", compressed=True), dense_model(*LLAMA, width=96, num_hidden_layers=1)),
}


def reference(config, tensors):
    folder = tempfile.mkdtemp()
    save_file(tensors, folder + "/model.safetensors", metadata={"format": "pt"})
    pathlib.Path(folder + "/config.json").write_text(json.dumps(config))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager",
                                                               experts_implementation="eager")
    shutil.rmtree(folder)
    return model.eval()


def run(model):
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT]), use_cache=False).logits[0]
        logprobs = torch.log_softmax(logits.double(), -1)
        likelihood = sum(logprobs[i - 1, PROMPT[i]].item() for i in range(SCORED_FROM, len(PROMPT)))
        ids, margins = list(PROMPT), []
        for _ in range(GREEDY):
            best = model(torch.tensor([ids]), use_cache=False).logits[0, -1].topk(2)
            margins.append((best.values[0] - best.values[1]).item())
            ids.append(best.indices[0].item())
    return logits, likelihood, ids[len(PROMPT):], margins


def make(name):
    form, (config, layer) = CASES[name]
    for seed in range(sum(name.encode()), 1 << 20):
        # Mixtures have more products in a row.
        c = Checkpoint(form, seed, 0.7 if "moe_intermediate_size" in config else 0.9)
        hidden = config["hidden_size"]
        c.plain("model.embed_tokens.weight", c.rng.standard_normal((VOCAB, hidden)))
        for i in range(config["num_hidden_layers"]):
            p = f"model.layers.{i}."
            c.norm(p + "input_layernorm", hidden)
            c.norm(p + "post_attention_layernorm", hidden)
            layer(c, p, i)
        c.norm("model.norm", hidden)
        c.linear("lm_head", VOCAB, hidden, gain=0.8, quantised=False)
        logits, likelihood, greedy, margins = run(reference(config, c.dense))
        if min(margins) > MARGIN and len(set(greedy)) > 4:
            break
    directory = HERE / name
    directory.mkdir(parents=True, exist_ok=True)
    plain = sorted(key[:-len(".weight")] for key, value in c.stored.items()
                   if key.endswith(".weight") and value.dim() == 2 and value.dtype == torch.bfloat16
                   and not key.startswith("model.embed"))
    quantization = dict(form.config)
    for key in ("modules_to_not_convert", "ignore"):
        if quantization["quant_method"] == {"ignore": "compressed-tensors"}.get(key, "awq"):
            quantization[key] = plain
    if quantization["quant_method"] == "fp8":
        quantization["modules_to_not_convert"] = plain
    (directory / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}, indent=1) + "\n")
    save_file(c.stored, directory / "model.safetensors", metadata={"format": "pt"})
    golden = {"prompt": PROMPT, "positions": POSITIONS, "scored_from": SCORED_FROM,
              "logits": [[round(x, 5) for x in logits[t].tolist()] for t in POSITIONS],
              "log_likelihood": round(likelihood, 6), "greedy": greedy, "margins": [round(m, 5) for m in margins]}
    (directory / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    size = sum(f.stat().st_size for f in directory.iterdir())
    print(name, "seed", seed, "spread", round(logits.std().item(), 2), "margin", round(min(margins), 4), "distinct",
          len(set(greedy)), "bytes", size, flush=True)


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        make(case)
