# SPDX-License-Identifier: Apache-2.0
"""What verifiers say who are asked several times, and which step they find wrong: of exported models, in f32.

A verifier writes the check of every step out and then decides, so one text is one vote. A judge node of a graph may ask
for several (`samples`) and takes the mean of the verdicts: that mean is the score whose AUC is measured here. The first
step that a check calls wrong is what a critic is asked to name.
"""
from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from .bpe import ByteLevelBpe
from .evaluate import area_under_curve, constant_guess
from .generate import Generator
from .shapes import CONTEXT
from .tokenizer import encode_prompts

TEMPERATURE = 1.0  # the model's own distribution
TOGETHER = 16  # candidates in one call of the generator


def step_called_wrong(text: str) -> int:
    """The first step that a check calls wrong, from 1, the answer's line counting as the last; 0 where all are accepted,
    -1 where neither is said."""
    for index, line in enumerate(text.split("\n")):
        found = re.fullmatch(r"(\d+|Answer): .* wrong", line)
        if found:
            return index + 1 if found[1] == "Answer" else int(found[1])
    return 0 if accepts(text) else -1


def accepts(text: str) -> bool:
    return text.strip().endswith("VERDICT: accept")


@dataclass
class Verdicts:
    """Of one member about some candidates."""

    auc: float  # of the mean of the sampled verdicts
    auc_one: float  # of one sampled verdict, in the mean over the samples
    names_greedy: float  # part of candidates whose first wrong step, or that there is none, a greedy check names
    names_most: float  # the same of what most of the sampled checks name
    names_wrong: float  # names_greedy of the candidates that have a wrong step
    constant_guess: float
    candidates: int


def verdicts(generator: Generator, documents: list[dict], tokenizer: ByteLevelBpe, samples: int,
             seed: int, most: int) -> Verdicts:
    """`documents` of the role verifier; the generator has one member; `samples` checks of each candidate, of `most` tokens."""
    encoded = sorted(zip(encode_prompts(tokenizer, [d["messages"] for d in documents]), range(len(documents))),
                     key=lambda e: (len(e[0]), e[1]))
    encoded = [(ids, i) for ids, i in encoded if len(ids) + most <= CONTEXT]
    if not encoded:
        raise ValueError(f"none of {len(documents)} candidates leaves {most} tokens of the context for a check")
    greedy: list[str] = []
    sampled: list[list[str]] = []
    for first in range(0, len(encoded), TOGETHER):
        prompts = [ids for ids, _ in encoded[first : first + TOGETHER]]
        one = generator.greedy(prompts, most)
        greedy += [tokenizer.decode(one.ids(0, row)) for row in range(len(prompts))]
        many = generator.sampled(prompts, most, samples, TEMPERATURE, seed * 1000 + first)
        sampled += [[tokenizer.decode(many.ids(0, row * samples + k)) for k in range(samples)]
                    for row in range(len(prompts))]
    return summarised([documents[i] for _, i in encoded], greedy, sampled)


def summarised(documents: list[dict], greedy: list[str], sampled: list[list[str]]) -> Verdicts:
    right = np.array([d["label"] == "accept" for d in documents])
    wrong = np.array([d["wrong_step"] for d in documents])
    votes = np.array([[accepts(t) for t in texts] for texts in sampled], float)
    named = np.array([step_called_wrong(t) for t in greedy])
    common = np.array([Counter(map(step_called_wrong, texts)).most_common(1)[0][0] for texts in sampled])
    return Verdicts(
        auc=area_under_curve(votes.mean(1), right),
        auc_one=float(np.mean([area_under_curve(v, right) for v in votes.T])),
        names_greedy=float((named == wrong).mean()), names_most=float((common == wrong).mean()),
        names_wrong=float((named == wrong)[wrong > 0].mean()), constant_guess=constant_guess(documents),
        candidates=len(documents))
