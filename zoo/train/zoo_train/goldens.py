# SPDX-License-Identifier: Apache-2.0
"""What the exported weights say, in f32 on the CPU, for the engine to be held against.

python -m zoo_train.goldens --items RUN/items.json --out zoo/goldens zoo/models/member-01 zoo/models/mixture
"""
from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import torch

from .checkpoint_names import read_model
from .generate import Generator
from .parity import logits_of
from .tokenizer import encode_prompts, load_tokenizer

LOGIT_PROMPTS = 4
LOGIT_POSITIONS = (0, -1)  # of each prompt
NEW_TOKENS = 400


def golden(folder: Path, items: list[dict], count: int) -> dict:
    shape, p, bias = read_model(folder)
    tokenizer = load_tokenizer(folder)
    prompts = encode_prompts(tokenizer, [d["messages"] for d in items])
    logits = []
    for ids in prompts[:LOGIT_PROMPTS]:
        values = logits_of(folder, ids)
        for at in LOGIT_POSITIONS:
            logits.append({"ids": ids[: at % len(ids) + 1], "logits": [round(v, 5) for v in values[at].tolist()]})
    generator = Generator(shape, p, bias, torch.float32)
    greedy = []
    for first in range(0, count, 50):
        rows = items[first : min(first + 50, count)]
        out = generator.greedy(prompts[first : first + len(rows)], NEW_TOKENS)
        for row, item in enumerate(rows):
            ids = out.ids(0, row)
            margins = out.margin[0, row, : min(len(ids) + 1, NEW_TOKENS)]
            greedy.append({"user": item["messages"][-1]["content"], "prompt_tokens": len(prompts[first + row]),
                           "text": tokenizer.decode(ids, skip_special_tokens=False), "tokens": len(ids),
                           "ended": len(ids) < NEW_TOKENS, "least_margin": round(float(margins.min()), 5),
                           "least_margin_at": int(margins.argmin())})
    return {"model": folder.name, "computed": "f32 from the bf16 weights; logits of the last token of ids; greedy text "
            "after the chat template, at most 400 tokens; least_margin is the smallest gap in nats between the best and "
            "the second token along the way, at token least_margin_at", "logits": logits, "greedy": greedy}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="zoo_train.goldens", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--items", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--count", type=int, default=250)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    by_role = json.loads(args.items.read_text(encoding="utf-8"))
    items = [d for role in ("solver", "critic", "verifier") if role in by_role for d in by_role[role]]
    random.Random(0).shuffle(items)
    for folder in args.folders:
        text = json.dumps(golden(folder, items, min(args.count, len(items))), separators=(",", ":"))
        (args.out / f"{folder.name}.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
