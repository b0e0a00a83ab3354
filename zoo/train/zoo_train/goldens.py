# SPDX-License-Identifier: Apache-2.0
"""What the exported weights say, in f32 on the CPU, for the engine to be held against.

python -m zoo_train.goldens --items RUN/items.json --out zoo/goldens zoo/models/m01=100 zoo/models/mixture=200
(=N: greedy continuations of N items)
"""
from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from .batches import pack_single
from .checkpoint_names import read_model
from .generate import Generator
from .mixture import EAGER, route
from .model import Decoder, project
from .tokenizer import encode_prompts, load_tokenizer

LOGIT_PROMPTS = 4
LOGIT_POSITIONS = (0, -1)  # of each prompt
ROLES = ("solver", "critic", "verifier", "consolidate")
NEW_TOKENS = 400
ROWS = 50  # prompts at once
NEAR_TIE = 0.01  # nats between the best token and the second, below which another program may choose the second
GATE_NEAR_TIE = 1e-4  # of gate scores, between the last expert chosen and the first left out


def logits_and_experts(folder: Path, ids: list[int]) -> tuple[torch.Tensor, list[list]]:
    """[T, V] f32; and per layer with experts, per token, who was chosen in rising order, or None at a near tie."""
    shape, p, bias = read_model(folder)
    decoder, layers = Decoder(shape), []

    def recording(s, x, router, layer_bias):
        chosen, weights = route(s, x, router, layer_bias)
        best = torch.topk(torch.sigmoid(F.linear(x.float(), router)) + layer_bias, s.top_k + 1, dim=-1).values
        gaps = (best[:, -2] - best[:, -1]).tolist()
        layers.append([sorted(row) if gap > GATE_NEAR_TIE else None for row, gap in zip(chosen.tolist(), gaps)])
        return chosen, weights

    decoder._pieces = SimpleNamespace(**{**vars(EAGER), "route": recording})
    tokens, sequences = pack_single(shape, ids)
    with torch.no_grad():
        h, _ = decoder.hidden(p, decoder.layer_weights(p, bias, torch.float32), tokens, sequences)
        return project(h, p["embed"])[0], layers


def golden(folder: Path, items: list[dict], count: int) -> dict:
    shape, p, bias = read_model(folder)
    tokenizer = load_tokenizer(folder)
    prompts = encode_prompts(tokenizer, [d["messages"] for d in items])
    fits = [i for i, ids in enumerate(prompts) if len(ids) < shape.context]
    items, prompts = [items[i] for i in fits], [prompts[i] for i in fits]
    logits = []
    for item, ids in zip(items[:LOGIT_PROMPTS], prompts):
        values, experts = logits_and_experts(folder, ids)
        for at in LOGIT_POSITIONS:
            logits.append({"user": item["messages"][-1]["content"], "ids": ids[: at % len(ids) + 1],
                           "logits": [round(v, 5) for v in values[at].tolist()]})
        if experts:
            logits[-1]["experts"] = experts
    generator = Generator(shape, p, bias, torch.float32)
    greedy = []
    for first in range(0, count, ROWS):
        rows = items[first : min(first + ROWS, count)]
        out = generator.greedy(prompts[first : first + len(rows)], NEW_TOKENS)
        for row, item in enumerate(rows):
            ids = out.ids(0, row)
            ended = len(ids) < NEW_TOKENS and len(prompts[first + row]) + len(ids) < shape.context
            margins = out.margin[0, row, : len(ids) + ended].tolist()
            greedy.append({"user": item["messages"][-1]["content"], "prompt_tokens": len(prompts[first + row]),
                           "text": tokenizer.decode(ids), "ids": ids, "ended": ended,
                           "near_ties": [i for i, m in enumerate(margins) if m < NEAR_TIE]})
        print(f"{folder.name}: {len(greedy)} of {count}", flush=True)
    return {"model": folder.name, "computed": "by zoo/train in f32 from the bf16 weights; logits are of the last token of "
            "ids; greedy text of at most " f"{NEW_TOKENS} tokens after the chat template of one user message; near_ties: "
            f"places of ids (its length: the end) where the best token is less than {NEAR_TIE} nats above the second",
            "new_tokens": NEW_TOKENS, "logits": logits, "greedy": greedy}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="zoo_train.goldens", description=__doc__)
    parser.add_argument("folders", nargs="+", help="DIR=N")
    parser.add_argument("--items", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    by_role = json.loads(args.items.read_text(encoding="utf-8"))
    for index, argument in enumerate(args.folders):
        folder, count = Path(argument.rpartition("=")[0]), int(argument.rpartition("=")[2])
        items = [d for role in ROLES if role in by_role for d in by_role[role]]
        random.Random(index).shuffle(items)
        result = golden(folder, items, count)
        lines = [json.dumps(g, separators=(",", ":")) for g in result.pop("greedy")]
        head = json.dumps(result, separators=(",", ":"))[:-1]
        text = head + ',"greedy":[\n' + ",\n".join(lines) + "\n]}\n"
        (args.out / f"{folder.name}.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
