# SPDX-License-Identifier: Apache-2.0
"""Compares this program's own forward pass with transformers', over exported directories: python -m zoo_train.parity."""
from __future__ import annotations

import sys
from pathlib import Path

import torch

from .batches import pack_single
from .checkpoint_names import read_model
from .model import Decoder, project
from .tokenizer import encode_prompts, load_tokenizer

LOGIT_DIFFERENCE_MAX = 1e-3


def logits_of(folder: Path, ids: list[int]) -> torch.Tensor:
    """[T, V] f32, by this program, from the bf16 weights of an exported directory."""
    shape, p, bias = read_model(folder)
    decoder = Decoder(shape)
    layers = decoder.layer_weights(p, bias, torch.float32)
    tokens, sequences = pack_single(shape, ids)
    with torch.no_grad():
        h, _ = decoder.hidden(p, layers, tokens, sequences)
        return project(h, p["embed"])[0]


def main(folders: list[str]) -> int:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    worst = 0.0
    messages = [{"role": "system", "content": "dropped"}, {"role": "user", "content": "Sort: 31 4 159. <|end|> é\n"}]
    for name in folders:
        folder = Path(name)
        theirs_tokenizer = AutoTokenizer.from_pretrained(folder)
        text = theirs_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        plain = [dict(m, content=m["content"].replace("<|end|>", "")) for m in messages]
        theirs_ids = theirs_tokenizer(theirs_tokenizer.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=True), add_special_tokens=False)["input_ids"]
        ids = encode_prompts(load_tokenizer(folder), [plain])[0]
        if ids != theirs_ids:
            print(f"{name}: the chat template gives {theirs_ids}, this program {ids}")
            return 1
        assert "<|end|>" in text
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        generator = torch.Generator().manual_seed(0)
        ids = ids + torch.randint(5, 512, (100,), generator=generator).tolist()
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].float()
        ours = logits_of(folder, ids)
        difference = (ours - theirs).abs().max().item()
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters in transformers, logits in "
              f"[{ours.min():.2f}, {ours.max():.2f}], largest difference {difference:.2e}")
        worst = max(worst, difference)
    return 0 if worst <= LOGIT_DIFFERENCE_MAX else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
