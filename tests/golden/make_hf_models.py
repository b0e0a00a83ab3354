# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/hf/: tiny random checkpoints of each family in bf16 safetensors, with what transformers computes.

    python3 tests/golden/make_hf_models.py        # needs torch, transformers, tokenizers

Weights are scaled so that logits spread over several nats. The reference runs in float64 on the bf16 weights. `logits`
are those of every prompt position, rounded to 7 digits; `greedy` continues the prompt.
"""
import copy
import json
import pathlib
import sys

import torch
import transformers

HERE = pathlib.Path(__file__).parent / "hf"
PROMPT = [1, 17, 80, 33, 5, 9, 61, 2, 44, 44, 7, 90, 13, 28, 71, 3, 66, 50, 12, 8, 21, 95, 40, 6, 19, 88, 30, 4, 59, 11,
          73, 26, 64, 15, 37, 92, 10, 53, 47, 84]  # crosses a page of 32 tokens
GREEDY = 24

COMMON = dict(vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2)
MODELS = {
    "llama": transformers.LlamaConfig(**COMMON, rms_norm_eps=1e-5, tie_word_embeddings=False, rope_parameters=dict(
        rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)),
    "llama_bias": transformers.LlamaConfig(**COMMON, rms_norm_eps=1e-5, tie_word_embeddings=True, attention_bias=True,
                                           rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0)),
    "mistral": transformers.MistralConfig(**COMMON, rms_norm_eps=1e-5, head_dim=16, sliding_window=None),
    "qwen2": transformers.Qwen2Config(**COMMON, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="yarn", rope_theta=1000000.0, factor=4.0, original_max_position_embeddings=64)),
    "qwen3": transformers.Qwen3Config(**COMMON, rms_norm_eps=1e-6, head_dim=16, tie_word_embeddings=False),
}


def make(name, config):
    torch.manual_seed(sum(name.encode()))
    model = transformers.AutoModelForCausalLM.from_config(config, torch_dtype=torch.float32)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() == 1 and "bias" not in key:
                value.copy_(1 + 0.2 * torch.randn_like(value))
            elif value.dim() == 1:
                value.copy_(0.3 * torch.randn_like(value))
            else:
                scale = 1.0 if "embed" in key else 1.6 / value.shape[1] ** 0.5
                value.copy_(scale * torch.randn_like(value))
            value.copy_(value.to(torch.bfloat16).float())
    directory = HERE / name
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(directory)  # a copy: rotary tables would be rounded too
    model = model.to(torch.float64).eval()
    if hasattr(model.config, "_attn_implementation"):
        model.set_attn_implementation("eager")
    ids = list(PROMPT)
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0]
        margins = []
        for _ in range(GREEDY):
            row = model(torch.tensor([ids])).logits[0, -1]
            best = row.topk(2).values
            margins.append(float(best[0] - best[1]))
            ids.append(int(row.argmax()))
    golden = dict(transformers=transformers.__version__, prompt=PROMPT, greedy=ids[len(PROMPT):],
                  smallest_margin=min(margins), logits=[[float(f"{x:.7g}") for x in row] for row in logits.tolist()])
    (directory / "golden.json").write_text(json.dumps(golden) + "\n")
    for extra in directory.glob("generation_config.json"):
        extra.unlink()
    print(name, "logits", float(logits.std()), "margin", min(margins), "bytes",
          sum(f.stat().st_size for f in directory.iterdir()))


if __name__ == "__main__":
    for model_name, model_config in MODELS.items():
        if len(sys.argv) < 2 or model_name in sys.argv[1:]:
            make(model_name, model_config)
