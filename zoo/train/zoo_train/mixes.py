# SPDX-License-Identifier: Apache-2.0
"""Who specialises in what."""
from __future__ import annotations

import numpy as np

OWN_PART = 0.6  # of a member's documents come from its own families, the rest from all alike
FAMILIES_OWN = (1, 2, 3, 2)  # how many families members 0, 1, 2, 3, 4 (as 0), .. call their own


def specialities(families: tuple[str, ...], members: int, seed: int) -> list[tuple[str, ...]]:
    """Deals families in shuffled rounds, so that each is somebody's and all are about equally often."""
    rng = np.random.default_rng(seed)
    deck: list[str] = []
    own = []
    for member in range(members):
        mine: list[str] = []
        while len(mine) < min(FAMILIES_OWN[member % len(FAMILIES_OWN)], len(families)):
            if not deck:
                deck = [families[i] for i in rng.permutation(len(families))]
            fresh = next((f for f in deck if f not in mine), None)
            if fresh is None:
                deck = [families[i] for i in rng.permutation(len(families))]
                continue
            deck.remove(fresh)
            mine.append(fresh)
        own.append(tuple(sorted(mine)))
    return own


def mixes_of(families: tuple[str, ...], own: list[tuple[str, ...]], own_part: float = OWN_PART) -> np.ndarray:
    """[members, families], rows sum to 1."""
    mixes = np.full((len(own), len(families)), (1 - own_part) / len(families))
    for member, mine in enumerate(own):
        for family in mine:
            mixes[member, families.index(family)] += own_part / len(mine)
    return mixes


def everything(families: tuple[str, ...]) -> np.ndarray:
    return np.full((1, len(families)), 1 / len(families))
