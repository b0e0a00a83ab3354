# SPDX-License-Identifier: Apache-2.0
"""The mix of a stage that teaches roles: how often a document is of a role and a family together."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from .mixes import OWN_PART, everything, mixes_of
from .plans import Roles
from .pool import ROLES, Pool

REST = "rest"  # all roles whose part is not given


def cells(pool: Pool, roles: Roles) -> Pool:
    """The pool with "role/family" in place of its families: those of the first role with a part of its own, of the second, .., of REST."""
    kinds = [*roles.seen, REST]
    kind_of_role = np.array([kinds.index(r) if r in roles.seen else len(kinds) - 1 for r in ROLES])
    family = kind_of_role[pool.role] * len(pool.families) + pool.family
    return replace(pool, family=family, families=tuple(f"{k}/{f}" for k in kinds for f in pool.families))


def mix(families: tuple[str, ...], own: tuple[str, ...], roles: Roles) -> np.ndarray:
    """[1, cells]: of a model that specialises in `own` (none: in nothing)."""
    parts = []
    for kind in (*roles.seen, REST):
        part = roles.seen.get(kind, 1 - sum(roles.seen.values()))
        own_part = roles.own.get(kind, OWN_PART)
        parts.append(part * (mixes_of(families, [own], own_part) if own else everything(families)))
    return np.concatenate(parts, axis=1)
