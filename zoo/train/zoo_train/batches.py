# SPDX-License-Identifier: Apache-2.0
"""Which documents each member sees at each step: a pure function of (seed, member, step), so a run can go on from any
step and the order does not depend on the device."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .model import Sequences, rotary_table, varlen_attn
from .pool import ROLES, Pool
from .shapes import Shape

# A judge's answer is one word: such a document counts as if it had this many tokens, or it would hardly be learned.
TOKENS_COUNTED_MIN = 16
PROMPT_WEIGHT = 0.1  # of a prompt's tokens: who predicts a candidate's steps while reading is surprised by wrong ones
CRITIC_WEIGHT = 3.0  # of a critic's tokens, unless a plan says otherwise
CRITIC_WEIGHT_STEPS = 1.0  # of one who writes checks out: he says enough
# A verifier decides in its last lines ("2: 126 wrong", "VERDICT: reject"): these tokens count more.
VERDICT_TOKENS, VERDICT_WEIGHT = 16, 6.0
PADDED_TO = 64  # tokens: sequences of these lengths and less go as one group where attention needs equal lengths


@dataclass
class Batch:
    tokens: torch.Tensor  # [G, N] i64
    targets: torch.Tensor  # [G, N] i64
    weights: torch.Tensor  # [G, N] f32, 0 on prompts and pads
    sequences: Sequences


class Batcher:
    """`mixes` [G, families]: how probable each family is for each member. `tokens` per member and step."""

    def __init__(self, pool: Pool, mixes: np.ndarray, tokens: int, seed: int, shape: Shape, device: torch.device,
                 identities: list[int] | None = None, critic_weight: float = CRITIC_WEIGHT):
        if mixes.shape[1] != len(pool.families):
            raise ValueError(f"mixes name {mixes.shape[1]} families, the pool has {len(pool.families)}")
        self.pool, self.mixes, self.tokens, self.seed, self.device = pool, mixes, tokens, seed, device
        self.members, self.critic_weight = mixes.shape[0], critic_weight
        self.identities = identities or list(range(self.members))
        self.by_family = [np.flatnonzero(pool.family == i) for i in range(len(pool.families))]
        none = [f for i, f in enumerate(pool.families) if not len(self.by_family[i]) and mixes[:, i].any()]
        if none:
            raise ValueError(f"the pool has no document of {none}; make it of more documents")
        mean = np.array([pool.length[ids].mean() if len(ids) else 1.0 for ids in self.by_family])
        self.draws = int(1.6 * tokens / float((mixes * mean).sum(1).min())) + 64
        self.sizes = np.array([len(ids) for ids in self.by_family])
        self.longest = int(pool.length.max())
        self.stream = torch.from_numpy(pool.tokens.astype(np.int16)).to(device)
        self.cos, self.sin = rotary_table(shape, device)

    def choose(self, step: int) -> np.ndarray:
        """Document ids [G, draws + 1]; -1 where a member's tokens are full, the last column is always -1."""
        chosen = np.full((self.members, self.draws + 1), -1, np.int64)
        for g, member in enumerate(self.identities):
            rng = np.random.Generator(np.random.Philox(key=self.seed * 65536 + member, counter=step << 64))
            family = rng.choice(len(self.sizes), self.draws, p=self.mixes[g])
            place = (rng.random(self.draws) * self.sizes[family]).astype(np.int64)
            ids = np.array([self.by_family[f][i] for f, i in zip(family, place)], np.int64)
            fits = int(np.searchsorted(np.cumsum(self.pool.length[ids]), self.tokens, side="right"))
            if fits == self.draws:
                raise ValueError("the documents drawn are far shorter than the mean of their families")
            chosen[g, :fits] = ids[:fits]
        return chosen

    def batch(self, step: int) -> Batch:
        return self.assemble(self.choose(step))

    def assemble(self, chosen: np.ndarray) -> Batch:
        pool, n = self.pool, self.tokens
        real = chosen >= 0
        ids = np.where(real, chosen, 0)
        length = np.where(real, pool.length[ids], 0)
        length[:, -1] = n - length.sum(1)  # the pads, one more sequence
        start = np.where(real, pool.start[ids], len(pool.tokens) - self.longest - 1)
        prompt = np.where(real, pool.prompt[ids], self.longest + 1)
        role = pool.role[ids]
        counted = np.maximum(TOKENS_COUNTED_MIN / np.maximum(pool.length[ids] - pool.prompt[ids], 1), 1.0)
        counted = np.where(role == ROLES.index("critic"), counted * self.critic_weight, counted)
        tail = np.where(role == ROLES.index("verifier"), VERDICT_TOKENS, 0)
        table = np.stack([length, start, prompt, (counted * 1024).astype(np.int64), tail]).reshape(5, -1)
        device_table = torch.from_numpy(table).to(self.device, non_blocking=True)
        lengths, starts, prompts, counts, tails = device_table
        total = self.members * n
        bounds = torch.zeros(lengths.shape[0] + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(lengths, 0, out=bounds[1:])
        row = torch.repeat_interleave(torch.arange(lengths.shape[0], device=self.device), lengths, output_size=total)
        position = torch.arange(total, device=self.device) - bounds[row]
        at = starts[row] + position
        left = lengths[row] - position - 1  # tokens of the document after this one; the target is one of them
        answer = position + 1 >= prompts[row]
        weights = torch.where(answer, counts[row].float() / 1024, PROMPT_WEIGHT)
        weights = torch.where(left <= tails[row], weights * VERDICT_WEIGHT, weights)
        weights = weights * ((left > 0) & (prompts[row] <= self.longest))  # no pads
        sequences = Sequences(self.cos[position], self.sin[position], bounds.to(torch.int32), self.longest,
                              position)
        if self.device.type != "cuda" or varlen_attn is None:
            self._pad(sequences, lengths, row, position)
        return Batch(self.stream[at].long().view(self.members, n), self.stream[at + 1].long().view(self.members, n),
                     weights.view(self.members, n), sequences)

    @staticmethod
    def _pad(sequences: Sequences, lengths: torch.Tensor, row: torch.Tensor, position: torch.Tensor) -> None:
        """Lays sequences of about one length out as rows of equal length, one group after the other. Empty ones are
        nowhere."""
        widths = (lengths + PADDED_TO - 1) // PADDED_TO * PADDED_TO
        first = torch.zeros_like(lengths)  # place of each sequence's first token
        groups, total = [], 0  # groups: (places, length of its rows)
        for width in sorted(set(widths.tolist()) - {0}):
            mine = torch.nonzero(widths == width).flatten()
            wide = int(lengths[mine].max())
            first[mine] = total + wide * torch.arange(len(mine), device=lengths.device)
            groups.append((len(mine) * wide, wide))
            total += len(mine) * wide
        sequences.packed = first[row] + position
        gather = torch.zeros(total, dtype=torch.int64, device=lengths.device)
        gather[sequences.packed] = torch.arange(position.shape[0], device=lengths.device)
        parts = gather.split([places for places, _ in groups])
        sequences.padded = [(part, wide) for part, (_, wide) in zip(parts, groups)]


def pack_single(shape: Shape, ids: list[int]) -> tuple[torch.Tensor, Sequences]:
    """One sequence of one member, on the CPU: tokens [1, N] and where it lies."""
    n = len(ids)
    cos, sin = rotary_table(shape, "cpu")
    every = torch.arange(n)
    bounds = torch.tensor([0, n], dtype=torch.int32)
    return torch.tensor([ids]), Sequences(cos[:n], sin[:n], bounds, n, padded=[(every, n)], packed=every)
