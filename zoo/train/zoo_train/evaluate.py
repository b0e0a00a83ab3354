# SPDX-License-Identifier: Apache-2.0
"""What trained models can do: answers per family, verdicts, criticism, and where a mixture sends its tokens."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import torch

from .batches import Batcher
from .bpe import ByteLevelBpe
from .generate import Generated, Generator
from .model import Decoder, Parameters
from .pool import Pool
from .shapes import CONTEXT, Shape
from .tokenizer import encode_prompts

NEW_TOKENS = {"solver": 400, "verifier": 220, "critic": 220, "judge": 4, "consolidate": 400}
NEW_TOKENS_STEPS = NEW_TOKENS | {"verifier": 320, "critic": 320}  # where checks are of whole steps
SEQUENCES_MAX = 20_000  # generated at once, over all members, on a GPU
SEQUENCES_CPU = 192  # on a CPU, where prompts of other lengths cost more than small products do
ACCEPT, REJECT, YES, NO = " accept", " reject", "Yes", "No"


def answer_of(text: str) -> str:
    """What follows the last "####"; empty where there is none."""
    _, mark, rest = text.rpartition("####")
    return rest.split("\n")[0].strip() if mark else ""


def named_step(text: str) -> int:
    """The first draft's wrong step in a critic's words, 0 for "no mistake", -1 where neither is said."""
    line = next((x for x in text.split("\n") if x.startswith("Draft 1:")), text.split("\n")[0])
    found = re.search(r"[Ss]tep (\d+)", line)
    if found:
        return int(found.group(1))
    return 0 if "no mistake" in line else -1


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Mann-Whitney: how often a positive scores above a negative; ties count half. NaN without both classes."""
    pos, neg = scores[positive], scores[~positive]
    if not len(pos) or not len(neg):
        return float("nan")
    order = np.argsort(np.concatenate((pos, neg)), kind="stable")
    values = np.concatenate((pos, neg))[order]
    ranks = np.empty(len(values))
    _, first, counts = np.unique(values, return_index=True, return_counts=True)
    for f, c in zip(first, counts):
        ranks[f : f + c] = f + (c + 1) / 2
    back = np.empty(len(values))
    back[order] = ranks
    return float((back[: len(pos)].sum() - len(pos) * (len(pos) + 1) / 2) / (len(pos) * len(neg)))


@dataclass
class Results:
    """Arrays are [members, items]; family [items] indexes families."""

    families: tuple[str, ...]
    family: dict[str, np.ndarray] = field(default_factory=dict)
    difficulty: dict[str, np.ndarray] = field(default_factory=dict)
    correct: dict[str, np.ndarray] = field(default_factory=dict)  # of solver, consolidate, verifier, critic
    scores: dict[str, np.ndarray] = field(default_factory=dict)  # of judge and verifier: higher = accept
    label: dict[str, np.ndarray] = field(default_factory=dict)  # of judge and verifier: accept; of critic: a step is wrong
    texts: dict[str, list[list[str]]] = field(default_factory=dict)

    def accuracy(self, role: str) -> np.ndarray:
        """[members, families]"""
        where = self.family[role]
        return np.stack([self.correct[role][:, where == f].mean(1) for f in range(len(self.families))], axis=1)

    def by_difficulty(self, role: str) -> dict[str, dict[str, list[float]]]:
        """family -> difficulty -> accuracy of each member"""
        out: dict[str, dict[str, list[float]]] = {}
        for f, name in enumerate(self.families):
            mine = self.family[role] == f
            out[name] = {str(d): self.correct[role][:, mine & (self.difficulty[role] == d)].mean(1).round(4).tolist()
                         for d in sorted(set(self.difficulty[role][mine].tolist()))}
        return out

    def auc(self, role: str, member: int, families: list[int] | None = None) -> float:
        keep = np.isin(self.family[role], families) if families is not None else slice(None)
        return area_under_curve(self.scores[role][member][keep], self.label[role][keep])


def _verdict_scores(generated: Generated, texts: list[list[str]], tokenizer: ByteLevelBpe) -> np.ndarray:
    """log P(accept) - log P(reject) where the verdict's word was chosen; 0 where no verdict was written."""
    members, rows = generated.tokens.shape[:2]
    first = {tokenizer.encode(w)[0] for w in (ACCEPT, REJECT)}
    scores = np.zeros((members, rows))
    for g in range(members):
        for b in range(rows):
            if "VERDICT:" not in texts[g][b]:
                continue
            ids = generated.ids(g, b)
            places = [i for i, t in enumerate(ids) if t in first]
            if places:
                a, r = generated.watched[g, b, places[-1]].tolist()
                scores[g, b] = a - r
    return scores


def evaluate(generator: Generator, documents: dict[str, list[dict]], families: tuple[str, ...],
             tokenizer: ByteLevelBpe, new_tokens: dict[str, int] = NEW_TOKENS) -> Results:
    """`documents` per role; all members meet all of them."""
    results = Results(families)
    word = {w: tokenizer.encode(w)[0] for w in (ACCEPT, REJECT, YES, NO)}
    for role, docs in documents.items():
        watch = {"judge": (word[YES], word[NO]), "verifier": (word[ACCEPT], word[REJECT])}.get(role, ())
        prompts = encode_prompts(tokenizer, [d["messages"] for d in docs])
        fits = sorted((len(p), i) for i, p in enumerate(prompts) if len(p) + new_tokens[role] <= CONTEXT)
        docs, prompts = [docs[i] for _, i in fits], [prompts[i] for _, i in fits]
        out = in_parts(generator, prompts, new_tokens[role], watch)
        texts = [[tokenizer.decode(out.ids(g, b)) for b in range(len(docs))] for g in range(generator.members)]
        results.texts[role] = texts
        results.family[role] = np.array([families.index(d["family"]) for d in docs])
        results.difficulty[role] = np.array([d["difficulty"] for d in docs])
        if role in ("judge", "verifier"):
            results.label[role] = np.array([d["label"] == "accept" for d in docs])
            results.scores[role] = (_verdict_scores(out, texts, tokenizer) if role == "verifier" else
                                    (out.watched[:, :, 0, 0] - out.watched[:, :, 0, 1]).numpy())
        elif role == "critic":
            results.label[role] = np.array([d["wrong_step"] > 0 for d in docs])
        right = {"solver": lambda t, d: answer_of(t) == d["answer"], "consolidate": lambda t, d: answer_of(t) == d["answer"],
                 "critic": lambda t, d: named_step(t) == d["wrong_step"],
                 "verifier": lambda t, d: t.strip().endswith("VERDICT: " + d["label"]),
                 "judge": lambda t, d: t.strip() == (YES if d["label"] == "accept" else NO)}[role]
        results.correct[role] = np.array([[right(t, d) for t, d in zip(row, docs)] for row in texts])
    return results


def in_parts(generator: Generator, prompts: list[list[int]], new_tokens: int, watch: tuple[int, ...]) -> Generated:
    """Greedy text of many prompts, some at a time."""
    most = SEQUENCES_MAX if generator.device.type == "cuda" else SEQUENCES_CPU
    size = max(1, most // generator.members)
    parts = [generator.greedy(prompts[i : i + size], new_tokens, watch) for i in range(0, len(prompts), size)]
    return Generated(*(torch.cat([getattr(p, name) for p in parts], dim=1) for name in ("tokens", "watched", "margin")))


def constant_guess(documents: list[dict]) -> float:
    """How often a critic is right that always names the same step."""
    steps = [d["wrong_step"] for d in documents]
    return max(steps.count(s) for s in set(steps)) / len(steps)


@torch.no_grad()
def routing_by_family(shape: Shape, p: Parameters, bias: torch.Tensor, dtype: torch.dtype, pool: Pool, tokens: int,
                      seed: int) -> np.ndarray:
    """[families, moe layers, experts]: the part of each family's expert choices, on fresh batches; rows sum to 1."""
    decoder = Decoder(shape)
    layers = decoder.layer_weights(p, bias, dtype)
    parts = []
    for family in range(len(pool.families)):
        mix = np.zeros((1, len(pool.families)))
        mix[0, family] = 1
        batch = Batcher(pool, mix, tokens, seed, shape, p["embed"].device).batch(0)
        _, loads = decoder.hidden(p, layers, batch.tokens, batch.sequences)
        parts.append((loads.float() / loads.sum(-1, keepdim=True)).cpu().numpy())
    return np.stack(parts)


def own_mask(families: tuple[str, ...], own: list[tuple[str, ...]]) -> np.ndarray:
    """[members, families]: is the family the member's own?"""
    return np.array([[f in o for f in families] for o in own])


def answers_summary(families: tuple[str, ...], table: np.ndarray, correct: np.ndarray, mine: np.ndarray) -> dict:
    """`table` [members, families] of accuracies, `correct` [members, items]."""
    members = range(len(table))
    return {
        "own_mean": float(np.mean([table[g][mine[g]].mean() for g in members])),
        "elsewhere_mean": float(np.mean([table[g][~mine[g]].mean() for g in members])) if not mine.all() else 0.0,
        "best_member": float(correct.mean(1).max()), "mean_member": float(correct.mean()),
        "oracle": float(correct.any(0).mean()),
        "best_by_family": {f: float(table[:, i].max()) for i, f in enumerate(families)},
    }


def with_member(families: tuple[str, ...], own: list[tuple[str, ...]], group: dict, correct: list[list[int]], place: int,
                evaluation: dict, its_correct: list[int]) -> None:
    """Puts one member's evaluation, made alone, in its place in `group`'s and in `correct` [members][solver's items]."""
    if len(its_correct) != len(correct[place]):
        raise ValueError(f"member {place + 1} answered {len(its_correct)} items, the group {len(correct[place])}")
    correct[place] = its_correct
    group["accuracy"][place] = evaluation["accuracy"][0]
    for family, by_difficulty in evaluation["by_difficulty"].items():
        for difficulty, values in by_difficulty.items():
            group["by_difficulty"][family][difficulty][place] = values[0]
    for name, values in evaluation["summary"].items():
        if isinstance(values, list):
            group["summary"].setdefault(name, [None] * len(correct))[place] = values[0]
    table = np.array([[row[f] for f in families] for row in group["accuracy"]])
    group["summary"] |= answers_summary(families, table, np.array(correct, bool), own_mask(families, own))


def group_summary(results: Results, own: list[tuple[str, ...]]) -> dict:
    """The figures that the study turns on, of the group's answers."""
    mine = own_mask(results.families, own)
    summary = answers_summary(results.families, results.accuracy("solver"), results.correct["solver"], mine)
    for role in ("judge", "verifier"):
        if role in results.scores:
            values = [results.auc(role, g, [results.families.index(f) for f in o]) for g, o in enumerate(own)]
            summary[f"{role}_auc_own"] = [round(v, 4) for v in values]
            summary[f"{role}_auc_all"] = [round(results.auc(role, g), 4) for g in range(len(own))]
    for role in ("critic", "consolidate"):
        if role in results.correct:
            summary[f"{role}_accuracy"] = [round(float(v), 4) for v in results.correct[role].mean(1)]
    if "critic" in results.correct:
        summary["critic_accuracy_wrong"] = [round(float(v), 4)
                                            for v in results.correct["critic"][:, results.label["critic"]].mean(1)]
        summary["critic_accuracy_own"] = [
            round(float(results.correct["critic"][g, np.isin(results.family["critic"], np.flatnonzero(mine[g]))].mean()), 4)
            for g in range(len(own))]
    return summary
