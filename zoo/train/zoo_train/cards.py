# SPDX-License-Identifier: Apache-2.0
"""A model card for each exported directory, from what training and evaluation recorded."""
from __future__ import annotations

import json

from . import stages
from .evaluate import NEW_TOKENS
from .plans import Model

HEADER = """---
license: apache-2.0
tags: [conclave, scale-model]
---
# {title}

{what}. One of the models of Conclave's scale model: the question "is a council of small models better than one giant
mixture?" at 1 : 100,000. It solves small generated puzzles in writing, and nothing else.

| | |
| --- | --- |
"""

LIMITS = """
Text of the system message is dropped by the chat template; the user's goes in verbatim. Figures are of the `{split}`
split, which shares no question with training, by greedy generation in f32 from these bf16 weights. `test` is left to the
study. Made by `zoo/train`; licence Apache-2.0.
"""


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _facts(run: "stages.Run", model: Model, record: dict, evaluation: dict, member: int) -> list[tuple[str, str]]:
    shape, plan, data = record["shape"], record["plan"], json.loads((run.folder / "data.json").read_text("utf-8"))
    facts = [("shape", f"{shape['family']}: {shape['layers']} layers, width {shape['hidden']}, {shape['heads']} heads, "
              f"vocabulary {shape['vocab']}, context {shape['context']}"),
             ("parameters", f"{record['parameters']:,}, {record['active_parameters']:,} active per token")]
    if shape["experts"]:
        facts.append(("experts", f"{shape['experts']} a layer in {shape['layers'] - shape['dense_layers']} layers, top "
                      f"{shape['top_k']}, width {shape['expert_ffn']}, {shape['shared_experts']} shared; sigmoid gate, "
                      "selection bias balanced without auxiliary loss"))
    facts += [("tokens", f"{record['tokens_per_member']:,} in {record['steps_done']:,} steps, prompts included; the "
               "loss is on completions alone"),
              ("data", f"{data['documents']:,} documents, {data['tokens']:,} tokens, {len(record['families'])} families; "
               f"seed {record['seed']}"),
              ("optimizer", f"Muon {plan['matrix_rate']} for matrices, AdamW {plan['adam_rate']} for the rest, linear to 0"),
              ("final loss", f"{record['loss'][member]:.4f} nats per token"),
              ("trained on", f"{record['device']}, {record['seconds']:.0f} s"
               + (f", all {model.members} members at once" if model.members > 1 else "") + f"; PyTorch {record['torch']}")]
    if "own" in record:
        facts.insert(0, ("own families", ", ".join(record["own"][member]) + " (60 % of its documents; 40 % are of all "
                         "families alike)"))
    if model.teacher:
        facts.append(("distilled from", f"{model.teacher}, weight {plan['distilled']} on its next-token distribution"))
    return facts


def _skills(evaluation: dict, member: int, several: bool) -> list[tuple[str, str]]:
    summary, rows = evaluation["summary"], []
    for role in ("judge", "verifier"):
        if f"{role}_auc_all" in summary:
            text = f"AUC {summary[f'{role}_auc_all'][member]:.3f} on all families"
            if several:
                text += f", {summary[f'{role}_auc_own'][member]:.3f} on its own"
            rows.append((role, text))
    if "critic_accuracy" in summary:
        rows.append(("critic", f"names the first wrong step (or that there is none) in {_percent(summary['critic_accuracy'][member])}; "
                     f"the best constant guess: {_percent(evaluation['critic_constant_guess'])}"))
    if "consolidate_accuracy" in summary:
        rows.append(("consolidation", f"right after seeing drafts of others: {_percent(summary['consolidate_accuracy'][member])}"))
    if "routing" in evaluation:
        routing = evaluation["routing"]
        rows.append(("routing", f"{routing['unused_below_0.1_percent_of_tokens']} experts are used by fewer than 0.1 % of "
                     f"tokens; the most used one {routing['most_used_over_mean']:.1f} times as often as the mean"))
    return rows


def card(run: "stages.Run", model: Model, record: dict, evaluation: dict, member: int) -> str:
    several = model.members > 1
    accuracy = evaluation["accuracy"][member]
    out = HEADER.format(title=stages.export_name(model, member), what=model.what[0].upper() + model.what[1:])
    for name, value in _facts(run, model, record, evaluation, member) + _skills(evaluation, member, several):
        out += f"| {name} | {value} |\n"
    out += f"\nSolver, at most {NEW_TOKENS['solver']} tokens, {evaluation['items']['solver'] // len(accuracy)} items a family, "
    out += f"mean {_percent(sum(accuracy.values()) / len(accuracy))}:\n\n| family | difficulty | right |\n| --- | --- | --- |\n"
    difficulty = dict(record["difficulties"])
    for family, value in accuracy.items():
        name = f"**{family}**" if several and family in record["own"][member] else family
        out += f"| {name} | {difficulty[family]} | {_percent(value)} |\n"
    return out + LIMITS.format(split=evaluation["split"])


def write_cards(run: "stages.Run") -> None:
    for model in run.profile.models:
        folder = run.folder / model.name
        if not (folder / "evaluation.json").exists():
            continue
        record, evaluation = (json.loads((folder / f).read_text("utf-8")) for f in ("record.json", "evaluation.json"))
        for member in range(model.members):
            path = run.folder / "models" / stages.export_name(model, member) / "README.md"
            path.write_text(card(run, model, record, evaluation, member), encoding="utf-8")
    stages.checksums(run.folder / "models")
