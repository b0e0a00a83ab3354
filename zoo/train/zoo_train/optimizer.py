# SPDX-License-Identifier: Apache-2.0
"""Muon for matrices, AdamW for the rest, over stacked parameters; gradients are clipped per member."""
from __future__ import annotations

import torch

from .model import Parameters

ADAM = ("embed", "router")  # and the norms
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(m: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz of [B, rows, columns] (Keller Jordan's quintic): singular values near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m / (m.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.transpose(-2, -1) if tall else x
    x = x.to(torch.bfloat16) if x.is_cuda else x
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x, x.transpose(-2, -1))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(-2, -1) if tall else x).float()


class Optimizer:
    def __init__(self, parameters: Parameters, matrix_rate: float, adam_rate: float, decay: float = 0.01,
                 clip: float = 1.0, betas: tuple[float, float] = (0.9, 0.98), momentum: float = 0.95):
        self.p = parameters
        self.matrix_rate, self.adam_rate, self.decay, self.clip = matrix_rate, adam_rate, decay, clip
        self.betas, self.momentum = betas, momentum
        self.steps = 0
        self.state: dict[str, list[torch.Tensor]] = {}
        for name, w in parameters.items():
            copies = 2 if self._adam(name) else 1
            self.state[name] = [torch.zeros_like(w) for _ in range(copies)]

    @staticmethod
    def _adam(name: str) -> bool:
        return name in ADAM or name.endswith("norm")

    @torch.no_grad()
    def step(self, grads: Parameters, scale: float) -> torch.Tensor:
        """`scale` in [0, 1] multiplies the rates. Returns the gradient norm of each member [G]."""
        self.steps += 1
        squares = sum(g.flatten(1).pow(2).sum(1) for g in grads.values())
        norm = squares.sqrt()
        factor = (self.clip / (norm + 1e-6)).clamp(max=1.0)
        for name, w in self.p.items():
            g = grads[name] * factor.view(-1, *([1] * (w.dim() - 1)))
            if self._adam(name):
                self._adam_step(name, w, g, self.adam_rate * scale)
            else:
                self._muon_step(name, w, g, self.matrix_rate * scale)
        return norm

    def _adam_step(self, name: str, w: torch.Tensor, g: torch.Tensor, rate: float) -> None:
        first, second = self.state[name]
        b1, b2 = self.betas
        first.lerp_(g, 1 - b1)
        second.lerp_(g * g, 1 - b2)
        m = first / (1 - b1**self.steps)
        v = second / (1 - b2**self.steps)
        w.add_(m / (v.sqrt() + 1e-8), alpha=-rate)

    def _muon_step(self, name: str, w: torch.Tensor, g: torch.Tensor, rate: float) -> None:
        (momentum,) = self.state[name]
        momentum.lerp_(g, 1 - self.momentum)
        update = g.lerp(momentum, self.momentum)
        rows, columns = w.shape[-2:]
        update = orthogonalise(update.flatten(0, -3)).view_as(w) * max(1.0, rows / columns) ** 0.5
        w.mul_(1 - rate * self.decay).add_(update, alpha=-rate)
