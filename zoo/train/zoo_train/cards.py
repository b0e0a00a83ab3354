# SPDX-License-Identifier: Apache-2.0
"""A model card for each exported directory and an index of all, from what training and evaluation recorded."""
from __future__ import annotations

import json
import math

from . import stages
from .evaluate import NEW_TOKENS
from .plans import Model
from .verdicts import TEMPERATURE

HEADER = """---
license: apache-2.0
tags: [conclave, scale-model]
---
# {title}

{what}. One of the models of Conclave's scale model: the question "is a council
of small models better than one giant mixture?" at 1 : 100,000. It solves small generated puzzles in writing, and nothing else.

| | |
| --- | --- |
"""

AUC_WANTED = 0.75  # of a verifier on its own families

# Weighted votes. A member's accuracy p is drawn to the group's by as many items as SHRINK_ITEMS; ANSWERS_ASSUMED - 1 wrong
# answers share what is left: weight = ln(p (ANSWERS_ASSUMED - 1) / (1 - p)).
SHRINK_ITEMS = 200
ANSWERS_ASSUMED = 11
P_LEAST, P_MOST = 0.05, 0.95

LIMITS = """
Text of the system message is dropped by the chat template; the user's goes in verbatim. Figures are of the `{split}`
split, which shares no question with training, by greedy generation in f32 from these bf16 weights. `test` is left to the
study. Made by `zoo/train`; licence Apache-2.0.
"""


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _taught(then: list[dict | None] | None, before: int, member: int) -> list[tuple[str, str]]:
    """Of a later stage, after one of `before` tokens."""
    rows, record = [], then[member] if then else None
    while record:
        plan, seen = record["plan"], ", ".join(f"{100 * v:.0f} % {k}" for k, v in record["seen"].items())
        rows.append(("then taught roles", f"{record['tokens_per_member']:,} tokens more "
                     f"({100 * record['tokens_per_member'] / before:.1f} % of the first stage's) in {record['steps_done']:,} steps: "
                     f"{seen}, the rest all other roles; verifiers and critics write whole steps out; Muon "
                     f"{plan['matrix_rate']}, AdamW {plan['adam_rate']}, linear to 0; seed {record['seed']}; "
                     f"{record['seconds']:.0f} s, {record['device']}, PyTorch {record['torch']}"))
        record = record.get("before")
    return rows[::-1]


def _facts(run: "stages.Run", model: Model, record: dict, then: list[dict] | None, member: int) -> list[tuple[str, str]]:
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
              ("data", f"{data['documents']:,} documents, {data['tokens']:,} tokens of {len(record['families'])} families' "
               f"`train` split, written by `conclave-zoo-data`, of which each step draws; seed {record['seed']}"),
              ("optimizer", f"Muon {plan['matrix_rate']} for matrices, AdamW {plan['adam_rate']} for the rest, linear to 0"),
              ("final loss", f"{record['loss'][member]:.4f} nats per token"),
              ("trained on", f"{record['device']}, {record['seconds']:.0f} s"
               + (f", all {model.members} members at once" if model.members > 1 else "") + f"; PyTorch {record['torch']}")]
    facts += _taught(then, record["tokens_per_member"], member)
    if "own" in record:
        facts.insert(0, ("own families", ", ".join(record["own"][member]) + " (60 % of its documents; 40 % are of all "
                         "families alike)"))
    if model.teacher:
        facts.append(("distilled from", f"{model.teacher}, weight {plan['distilled']} on its next-token distribution"))
    return facts


def _checks(verdicts: dict | None, member: int, several: bool) -> list[tuple[str, str]]:
    """Of the verifier who is asked several times, and of the steps that its checks call wrong."""
    if verdicts is None:
        return []
    mine, where = verdicts["members"][member], "its own families" if several else "all families"
    return [(f"verifier, mean of {verdicts['checks']} verdicts at temperature {TEMPERATURE:g}",
             f"AUC {mine['auc']:.3f} on {where} ({mine['candidates']} candidates; one sampled verdict: {mine['auc_one']:.3f})"),
            ("criticism, written out", f"asked to check every step (the verifier's question), it names the first wrong step "
             f"(or that there is none) in {_percent(mine['names_greedy'])} on {where}, by most of {verdicts['checks']} checks in "
             f"{_percent(mine['names_most'])}; the best constant guess: {_percent(mine['constant_guess'])}")]


def _of(summary: dict, name: str, member: int) -> float | None:
    return summary[name][member] if name in summary else None


def _skills(evaluation: dict, member: int, several: bool, written_out: bool) -> list[tuple[str, str]]:
    summary, rows = evaluation["summary"], []
    for role in ("judge", "verifier"):
        if f"{role}_auc_all" in summary:
            text = f"AUC {summary[f'{role}_auc_all'][member]:.3f} on all families"
            if several:
                text += f", {summary[f'{role}_auc_own'][member]:.3f} on its own"
            rows.append((role, text))
    if "critic_accuracy" in summary:
        text = f"names the first wrong step (or that there is none) in {_percent(summary['critic_accuracy'][member])}"
        if several and _of(summary, "critic_accuracy_own", member) is not None:
            text += f", on its own families in {_percent(summary['critic_accuracy_own'][member])}"
        if _of(summary, "critic_accuracy_wrong", member) is not None:
            text += f", where a step is wrong in {_percent(summary['critic_accuracy_wrong'][member])}"
        rows.append(("critic" if written_out else "critic, in one line",
                     f"{text}; the best constant guess: {_percent(evaluation['critic_constant_guess'])}"))
    if "consolidate_accuracy" in summary:
        rows.append(("consolidation", f"right after seeing drafts of others: {_percent(summary['consolidate_accuracy'][member])}"))
    if "routing" in evaluation:
        routing = evaluation["routing"]
        rows.append(("routing", f"{routing['unused_below_0.1_percent_of_tokens']} experts are used by fewer than 0.1 % of "
                     f"tokens; the most used one {routing['most_used_over_mean']:.1f} times as often as the mean"))
    return rows


def _shortfalls(evaluation: dict, verdicts: dict | None, member: int, several: bool) -> list[str]:
    """In words, what was hoped for and is not so."""
    summary, out = evaluation["summary"], []
    checks = verdicts["members"][member] if verdicts else {"auc": 1.0, "names_greedy": 1.0, "constant_guess": 0.0}
    which = "own" if several else "all"
    for role, says in (("verifier", "As a verifier it tells right from wrong poorly"),
                       ("judge", "Its one-word verdict (judge) says little")):
        value = summary.get(f"{role}_auc_{which}", [1.0] * (member + 1))[member]
        if role == "verifier" and verdicts and checks["auc"] >= AUC_WANTED:
            continue
        if value < AUC_WANTED:
            out.append(f"{says}: AUC {value:.2f}{' on its own families' if several else ''}, {AUC_WANTED} was wanted.")
    guess = evaluation["critic_constant_guess"]
    if "critic_accuracy" in summary and summary["critic_accuracy"][member] <= guess:
        out.append("As a critic it does no better than always naming the same step.")
    if checks["names_greedy"] <= checks["constant_guess"]:
        out.append("Nor when it writes the check of every step out.")
    return out


def card(run: "stages.Run", model: Model, record: dict, evaluation: dict, verdicts: dict | None,
         then: list[dict] | None, member: int) -> str:
    """`then`: what a later stage did to each member."""
    several = model.members > 1
    accuracy = evaluation["accuracy"][member]
    out = HEADER.format(title=stages.export_name(model, member), what=model.what[0].upper() + model.what[1:])
    facts = _facts(run, model, record, then, member) + _skills(evaluation, member, several, bool(then and then[member]))
    for name, value in facts + _checks(verdicts, member, several):
        out += f"| {name} | {value} |\n"
    out += f"\nSolver, at most {NEW_TOKENS['solver']} tokens, {evaluation['items']['solver'] // len(accuracy)} items a family, "
    out += f"mean {_percent(sum(accuracy.values()) / len(accuracy))}:\n\n| family | difficulty | right |\n| --- | --- | --- |\n"
    difficulty = dict(record["difficulties"])
    for family, value in accuracy.items():
        name = f"**{family}**" if several and family in record["own"][member] else family
        out += f"| {name} | {difficulty[family]} | {_percent(value)} |\n"
    shortfalls = _shortfalls(evaluation, verdicts, member, several)
    if shortfalls:
        out += "\nWhat it does not do: " + " ".join(shortfalls) + "\n"
    return out + LIMITS.format(split=evaluation["split"])


def vote_weights(accuracies: list[float], items: int) -> list[float]:
    """Of members with these accuracies on `items` items each."""
    pool = sum(accuracies) / len(accuracies)
    shrunk = [(items * a + SHRINK_ITEMS * pool) / (items + SHRINK_ITEMS) for a in accuracies]
    clipped = [min(P_MOST, max(P_LEAST, p)) for p in shrunk]
    return [math.log(p * (ANSWERS_ASSUMED - 1) / (1 - p)) for p in clipped]


def best_by_family(accuracy: list[dict]) -> dict[str, int]:
    """family -> the member that is best at it; of equals the first."""
    return {f: max(range(len(accuracy)), key=lambda m: (accuracy[m][f], -m)) for f in accuracy[0]}


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def _index_rows(model: Model, record: dict, evaluation: dict, verdicts: dict | None) -> str:
    several, summary, rows = model.members > 1, evaluation["summary"], ""
    means = [_mean(a.values()) for a in evaluation["accuracy"]]
    weights = vote_weights(means, evaluation["items"]["solver"])
    for member, accuracy in enumerate(evaluation["accuracy"]):
        name = stages.export_name(model, member)
        own = record["own"][member] if several else []
        cells = [f"[{name}]({name}/README.md)", ", ".join(own) or "all",
                 _percent(_mean(accuracy[f] for f in own)) if own else "",
                 _percent(_mean(v for f, v in accuracy.items() if f not in own)) if own else "", _percent(means[member])]
        for role in ("verifier", "judge"):
            found = summary.get(f"{role}_auc_{'own' if several else 'all'}")
            cells.append(f"{found[member]:.2f}" if found else "")
        checks = verdicts["members"][member] if verdicts else None
        cells.insert(6, f"{checks['auc']:.2f}" if checks else "")
        cells.append(_percent(summary["critic_accuracy"][member]) if "critic_accuracy" in summary else "")
        cells.append(_percent(checks["names_greedy"]) if checks else "")
        cells += [f"{record['loss'][member]:.3f}", f"{weights[member]:.2f}" if several else ""]
        rows += "| " + " | ".join(cells) + " |\n"
    return rows


def index(read: list[tuple[Model, dict, dict, dict | None]]) -> str:
    """Of models/: what is there, and each family's accuracies."""
    out = """# The trained models

Hugging Face directories in bf16 (safetensors, tokenizer, chat template, card), made by `zoo/train`. Figures are of the
development split, which shares no question with training; where there are own families, verifier, judge and check are on
those. "of several": the mean of 16 verdicts at temperature 1. "critic right": names the first wrong step of a draft, all families; "check
right": by the verifier's check of every step. `sha256sum -c SHA256SUMS` checks the files.

| model | own families | right on own | elsewhere | on all | verifier AUC | of several | judge AUC | critic right | check right | loss | vote weight |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
    for model, record, evaluation, verdicts in read:
        out += _index_rows(model, record, evaluation, verdicts)
    out += f"""
Vote weight: ln(p ({ANSWERS_ASSUMED} - 1) / (1 - p)) of the accuracy p on all families, drawn to the group's mean by
{SHRINK_ITEMS} items; that a wrong answer is one of {ANSWERS_ASSUMED - 1} is an assumption. A critic that always named the
same step would be right in {_percent(read[0][2]["critic_constant_guess"])}.

"""
    groups = [(m, e["accuracy"]) for m, _, e, _ in read if m.members > 1]
    singles = [(m, e["accuracy"][0]) for m, _, e, _ in read if m.members == 1]
    titles = [t for m, _ in groups for t in ("best member", "right", f"mean of {m.name}")] + [m.name for m, _ in singles]
    out += "| family | difficulty | " + " | ".join(titles) + " |\n" + "| --- " * (len(titles) + 2) + "|\n"
    for family, difficulty in read[0][1]["difficulties"]:
        cells = [family, difficulty]
        for model, accuracy in groups:
            best = best_by_family(accuracy)[family]
            cells += [stages.export_name(model, best), _percent(accuracy[best][family]),
                      _percent(_mean(a[family] for a in accuracy))]
        cells += [_percent(accuracy[family]) for _, accuracy in singles]
        out += "| " + " | ".join(cells) + " |\n"
    return out


def write_cards(run: "stages.Run") -> None:
    read = []
    for model in run.profile.models:
        folder = run.folder / model.name
        if not (folder / "evaluation.json").exists():
            continue
        record, evaluation = (json.loads((folder / f).read_text("utf-8")) for f in ("record.json", "evaluation.json"))
        verdicts, then = (json.loads((folder / f).read_text("utf-8")) if (folder / f).exists() else None
                          for f in ("verdicts.json", stages.ROLES_RECORD))
        read.append((model, record, evaluation, verdicts))
        for member in range(model.members):
            path = run.folder / "models" / stages.export_name(model, member) / "README.md"
            path.write_text(card(run, model, record, evaluation, verdicts, then, member), encoding="utf-8")
    if read:
        (run.folder / "models" / "README.md").write_text(index(read), encoding="utf-8")
    stages.checksums(run.folder / "models")
