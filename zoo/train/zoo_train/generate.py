# SPDX-License-Identifier: Apache-2.0
"""Generation with a key-value cache, for G members and B prompts at once: greedy or sampled.

Prompts are forced token by token from position 0, so all sequences stand at the same position at every step: no
prefill, no padding, one code path.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
import torch.nn.functional as F

from .mixture import mixture_ffn_gathered, swiglu
from .model import Decoder, Parameters, attend, heads_gqa, heads_mla, project, rms_norm, rotary_table
from .shapes import Shape
from .tokenizer import END_ID, PAD_ID

CHECK_EVERY = 16  # steps between looks at who has ended
SHRINK_AT = 0.75  # part of the rows that may remain before those that have ended are put away


@dataclass
class Generated:
    tokens: torch.Tensor  # [G, B, S] i64 on the CPU: what follows the prompt; PAD after END
    watched: torch.Tensor  # [G, B, S, W] f32: log-probabilities of the watched tokens where token s was chosen
    margin: torch.Tensor  # [G, B, S] f32: log-probability of the chosen token above the second

    def ids(self, member: int, row: int) -> list[int]:
        """Without END and what follows."""
        out = []
        for token in self.tokens[member, row].tolist():
            if token in (END_ID, PAD_ID):
                break
            out.append(token)
        return out


class Generator:
    def __init__(self, shape: Shape, p: Parameters, bias: torch.Tensor | None, dtype: torch.dtype):
        self.shape, self.dtype = shape, dtype
        self.embed = p["embed"].detach()
        self.final_norm = p["final_norm"].detach()
        detached = {name: w.detach() for name, w in p.items()}
        self.layers = Decoder(shape).layer_weights(detached, bias, dtype)
        self.device = self.embed.device
        self.members = self.embed.shape[0]
        self.cos, self.sin = rotary_table(shape, self.device)

    def _layer(self, i: int, x: torch.Tensor, t: int, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """x [G, B, D]; keys and values [G * B, K, T, Dk] get position t."""
        s, w = self.shape, self.layers[i]
        g, b = x.shape[:2]
        h = rms_norm(x, w["attn_norm"][:, None], s.epsilon)
        cos, sin = (table[t].expand(g * b, -1) for table in (self.cos, self.sin))
        q, k, v = (heads_mla if s.mla else heads_gqa)(s, h, w, cos, sin)
        keys[:, :, t], values[:, :, t] = k, v
        q = q.unflatten(1, (k.shape[1], -1))  # the heads of a group are rows of one query
        y = attend(q, keys[:, :, : t + 1], values[:, :, : t + 1], causal=False)
        x = x + project(y.reshape(g, b, -1), w["o"])
        h = rms_norm(x, w["ffn_norm"][:, None], s.epsilon)
        if "router" in w:
            return x + mixture_ffn_gathered(s, h[0], w)[None]
        return x + project(swiglu(project(h, w["gate_up"])), w["down"])

    def greedy(self, prompts: list[list[int]], new_tokens: int, watch: tuple[int, ...] = ()) -> Generated:
        return self._generate(prompts, new_tokens, watch, 1, None)

    def sampled(self, prompts: list[list[int]], new_tokens: int, copies: int, temperature: float, seed: int) -> Generated:
        """`copies` of every prompt, one after the other in `tokens`; the same seed and device, the same text."""
        noise = torch.Generator(self.device).manual_seed(seed)

        def choose(logits: torch.Tensor) -> torch.Tensor:  # Gumbel's maximum is a draw from the softmax
            uniform = torch.rand(logits.shape, generator=noise, device=self.device).clamp(1e-20, 1 - 1e-7)
            return (logits / temperature - torch.log(-torch.log(uniform))).argmax(-1)

        return self._generate(prompts, new_tokens, (), copies, choose)

    def _shared(self, forced: torch.Tensor, steps: int, caches: list, offsets: torch.Tensor) -> None:
        """The first positions, where every row is prompt: caches alone are filled."""
        for t in range(steps):
            x = F.embedding(forced[:, t].expand(self.members, -1) + offsets, self.embed.flatten(0, 1))
            for i, (keys, values) in enumerate(caches):
                x = self._layer(i, x, t, keys, values)

    def _caches(self, rows: int, positions: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        s = self.shape
        kv_heads, wide = (s.heads, s.value_dim) if s.mla else (s.kv_heads, s.head_dim)
        return [tuple(torch.empty(rows, kv_heads, positions, width, dtype=self.dtype, device=self.device)
                      for width in (s.head_dim, wide)) for _ in range(s.layers)]

    @torch.no_grad()
    def _generate(self, prompts: list[list[int]], new_tokens: int, watch: tuple[int, ...], copies: int,
                  choose: Callable[[torch.Tensor], torch.Tensor] | None) -> Generated:
        s, g, b = self.shape, self.members, len(prompts) * copies
        length = torch.tensor([len(p) for p in prompts], device=self.device)
        longest, shared = max(map(len, prompts)), min(map(len, prompts)) - 1
        total = min(s.context, longest + new_tokens)
        forced = torch.full((len(prompts), longest), PAD_ID, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            forced[row, : len(prompt)] = torch.tensor(prompt)
        forced = forced.to(self.device)
        member_offset = torch.arange(g, device=self.device)[:, None] * s.vocab
        caches = self._caches(g * len(prompts), total)
        self._shared(forced, shared, caches, member_offset)
        if copies > 1:
            forced, length = forced.repeat_interleave(copies, 0), length.repeat_interleave(copies)
            caches = [tuple(c.repeat_interleave(copies, 0) for c in pair) for pair in caches]
        out = torch.full((g, b, new_tokens), PAD_ID, dtype=torch.int64, device=self.device)
        watched = torch.zeros(g, b, new_tokens, len(watch), device=self.device)
        margin = torch.zeros(g, b, new_tokens, device=self.device)
        ended = torch.zeros(g, b, dtype=torch.bool, device=self.device)
        token = forced[:, shared].expand(g, b)
        rows = torch.arange(b, device=self.device)
        for t in range(shared, total - 1):
            x = F.embedding(token + member_offset, self.embed.flatten(0, 1))
            for i, (keys, values) in enumerate(caches):
                x = self._layer(i, x, t, keys, values)
            h = rms_norm(x, self.final_norm[:, None], s.epsilon)
            logits = project(h, self.embed.to(self.dtype)).float()
            best = logits.topk(2, dim=-1)
            chosen = (best.indices[..., 0] if choose is None else choose(logits)).masked_fill(ended, PAD_ID)
            place = t + 1 - length  # [B], which new token this is; negative within the prompt
            live = (place >= 0) & (place < new_tokens)
            at = place.clamp(0, new_tokens - 1)
            out[:, rows, at] = torch.where(live, chosen, out[:, rows, at])
            margin[:, rows, at] = torch.where(live, best.values[..., 0] - best.values[..., 1], margin[:, rows, at])
            if watch:
                logp = logits[..., list(watch)] - torch.logsumexp(logits, -1, keepdim=True)
                watched[:, rows, at] = torch.where(live[:, None], logp, watched[:, rows, at])
            ended |= live & (chosen == END_ID) | (place >= new_tokens)
            given = forced[:, min(t + 1, longest - 1)].expand(g, -1)
            token = torch.where(place < 0, given, chosen)
            if t % CHECK_EVERY == 0:
                left = torch.nonzero(~ended.all(0)).flatten()
                if not len(left):
                    break
                if len(left) <= len(rows) * SHRINK_AT:
                    caches = [tuple(c.unflatten(0, (g, -1))[:, left].flatten(0, 1) for c in pair) for pair in caches]
                    rows, length, forced, token, ended = (x[..., left] for x in (rows, length, forced.T, token, ended))
                    forced = forced.T
        return Generated(out.cpu(), watched.cpu(), margin.cpu())
