# SPDX-License-Identifier: Apache-2.0
"""The training loop of one group of models: resumable, reproducible, aware of its deadline."""
from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .batches import CRITIC_WEIGHT, Batch, Batcher
from .model import Decoder, Parameters, init_parameters, rotary_table
from .optimizer import Optimizer
from .pool import Pool
from .shapes import Shape


@dataclass(frozen=True)
class Plan:
    """All that decides the loss curve, beside the pool and the device."""

    name: str
    seed: int
    members: int
    tokens_per_step: int  # of one member
    steps: int
    matrix_rate: float = 0.02
    adam_rate: float = 0.004
    warmup_steps: int = 100
    decay_part: float = 1.0  # the last part of the steps over which the rate falls to 0
    bias_rate: float = 0.003  # of the mixture's selection bias, per step
    distilled: float = 0.0  # weight of the teacher's distribution in the loss
    critic_weight: float = CRITIC_WEIGHT
    start: str = ""  # SHA-256 of the weights that training goes on from; empty: from random ones

    def rate(self, step: int) -> float:
        up = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1.0, self.steps * self.decay_part)
        return min(up, left, 1.0)


def trained_dtype(device: torch.device) -> torch.dtype:
    """Of matrix products in training."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


class Trainer:
    def __init__(self, shape: Shape, plan: Plan, pool: Pool, mixes: np.ndarray, folder: Path, device: torch.device,
                 compiled: bool, identities: list[int] | None = None, teacher: "Teacher | None" = None,
                 start: tuple[Parameters, torch.Tensor | None] | None = None):
        self.shape, self.plan, self.folder, self.device = shape, plan, folder, device
        self.dtype = trained_dtype(device)
        folder.mkdir(parents=True, exist_ok=True)
        self.decoder = Decoder(shape, compiled)
        self.batcher = Batcher(pool, mixes, plan.tokens_per_step, plan.seed, shape, device, identities,
                               plan.critic_weight)
        weights, bias = start or (init_parameters(shape, plan.members, plan.seed), None)
        self.p: Parameters = {k: w.to(device).requires_grad_() for k, w in weights.items()}
        self.optimizer = Optimizer({k: w.detach() for k, w in self.p.items()}, plan.matrix_rate, plan.adam_rate)
        moe = shape.moe_layers
        self.bias = torch.zeros(moe, shape.experts, device=device) if moe else None
        if moe and bias is not None:
            self.bias.copy_(bias)
        self.load = torch.zeros(moe, shape.experts, dtype=torch.int64, device=device) if moe else None
        self.teacher = teacher
        self.done = 0
        self.late_steps = 0  # trained at a rate lowered because the deadline was near
        self.curve: list[dict] = []
        self._restore()

    # Checkpoints ------------------------------------------------------------------------------------------------
    def _path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        # Numbers as JSON: PyTorch 1.13 reads no float back where only weights may be read.
        numbers = {"plan": asdict(self.plan), "shape": self.shape.as_json(), "done": self.done, "curve": self.curve,
                   "optimizer_steps": self.optimizer.steps, "late_steps": self.late_steps}
        state = {"numbers": json.dumps(numbers), "parameters": {k: w.detach() for k, w in self.p.items()},
                 "optimizer": self.optimizer.state, "bias": self.bias, "load": self.load}
        temporary = self._path().with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self._path())

    def _restore(self) -> None:
        if not self._path().exists():
            return
        state = torch.load(self._path(), map_location=self.device, weights_only=True)
        numbers = json.loads(state["numbers"])
        if numbers["plan"] != asdict(self.plan) or numbers["shape"] != self.shape.as_json():
            raise ValueError(f"{self._path()} was written by another plan: {numbers['plan']}; give another folder")
        with torch.no_grad():
            for name, w in self.p.items():
                w.copy_(state["parameters"][name])
                for mine, theirs in zip(self.optimizer.state[name], state["optimizer"][name]):
                    mine.copy_(theirs)
        self.optimizer.steps = numbers["optimizer_steps"]
        self.bias, self.load = state["bias"], state["load"]
        self.done, self.curve, self.late_steps = numbers["done"], numbers["curve"], numbers["late_steps"]

    # Steps ------------------------------------------------------------------------------------------------------
    def losses(self, batch: Batch) -> torch.Tensor:
        """Mean nats per counted token of each member [G]; also keeps the experts' loads of this batch."""
        layers = self.decoder.layer_weights(self.p, self.bias, self.dtype)
        h, self._loads = self.decoder.hidden(self.p, layers, batch.tokens, batch.sequences)
        embed = self.p["embed"].to(self.dtype)
        counted = batch.weights.sum(-1).clamp(min=1)
        loss = self.decoder.loss_sums(h, embed, batch.targets, batch.weights) / counted
        if self.teacher is None:
            return loss
        a = self.plan.distilled
        return (1 - a) * loss + a * self.teacher.divergence_sums(h, embed, batch) / counted

    def train_step(self, batch: Batch, allowed: float = 1.0) -> torch.Tensor:
        """`allowed` bounds the rate."""
        loss = self.losses(batch)
        names = list(self.p)
        grads = torch.autograd.grad(loss.sum(), [self.p[n] for n in names])
        rate = min(self.plan.rate(self.done), allowed)
        self.late_steps += rate < self.plan.rate(self.done)
        self.optimizer.step(dict(zip(names, grads)), rate)
        if self.bias is not None:
            mean = self._loads.float().mean(-1, keepdim=True)
            self.bias += self.plan.bias_rate * min(1.0, 2 * rate) * torch.sign(mean - self._loads)
            self.load += self._loads
        self.done += 1
        return loss.detach()

    @staticmethod
    def _allowed(began: float, deadline: float | None) -> float:
        """Where the deadline comes before the plan's end, the rate falls to 0 over the last quarter of the time."""
        if deadline is None:
            return 1.0
        return min(1.0, max(0.0, deadline - time.monotonic()) / max(1.0, (deadline - began) / 4))

    def tail_loss(self) -> list[float]:
        """Mean of the last tenth of the curve, of each member."""
        tail = [c["loss"] for c in self.curve[-max(1, len(self.curve) // 10) :]]
        return [round(sum(column) / len(tail), 5) for column in zip(*tail)]

    def run(self, deadline: float | None = None, save_seconds: float = 60.0, log_steps: int | None = None,
            until: int | None = None, save: bool = True) -> bool:
        """Trains to the plan's end (or `until`, or `deadline` on time.monotonic); true where the plan is done."""
        end = min(self.plan.steps, until or self.plan.steps)
        log_steps = log_steps or min(50, max(1, self.plan.steps // 20))
        began = saved = time.monotonic()
        logged = (self.done, 0.0)
        with ThreadPoolExecutor(1) as ahead, open(self.folder / "log.jsonl", "a", encoding="utf-8") as log:
            chosen = ahead.submit(self.batcher.choose, self.done)
            while self.done < end and (deadline is None or time.monotonic() < deadline):
                batch = self.batcher.assemble(chosen.result())
                chosen = ahead.submit(self.batcher.choose, self.done + 1)
                loss = self.train_step(batch, self._allowed(began, deadline))
                if self.done % log_steps == 0 or self.done == end:
                    values = [round(v, 5) for v in loss.tolist()]
                    self.curve.append({"step": self.done, "loss": values})
                    seconds = time.monotonic() - began
                    rate = (self.done - logged[0]) * self.plan.members * self.plan.tokens_per_step / (seconds - logged[1])
                    logged = (self.done, seconds)
                    line = {"model": self.plan.name, "step": self.done, "loss_mean": sum(values) / len(values),
                            "loss": values, "seconds": round(seconds, 2), "tokens_per_second": int(rate)}
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                    if not all(np.isfinite(values)):
                        raise FloatingPointError(f"{self.plan.name}: the loss is not finite at step {self.done}")
                if time.monotonic() - saved > save_seconds:
                    self.save()
                    saved = time.monotonic()
        if save:
            self.save()
        return self.done >= self.plan.steps


class Teacher:
    """A trained model whose next-token distribution another learns."""

    def __init__(self, shape: Shape, parameters: Parameters, bias: torch.Tensor | None, dtype: torch.dtype,
                 compiled: bool):
        self.decoder = Decoder(shape, compiled)
        self.p = {k: w.detach() for k, w in parameters.items()}
        self.layers = self.decoder.layer_weights(self.p, bias, dtype)
        self.embed = self.p["embed"].to(dtype)
        self.cos, self.sin = rotary_table(shape, self.embed.device)
        self._sums = torch.compile(_divergence_sums, dynamic=False) if compiled else _divergence_sums

    def divergence_sums(self, h: torch.Tensor, embed: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross entropy of the student's distribution under the teacher's [1]."""
        at = batch.sequences.position
        sequences = replace(batch.sequences, cos=self.cos[at], sin=self.sin[at])
        with torch.no_grad():
            mine, _ = self.decoder.hidden(self.p, self.layers, batch.tokens, sequences)
        return self._sums(h, embed, mine, self.embed, batch.weights)


def _divergence_sums(h, embed, teacher_h, teacher_embed, weights):
    logits = torch.bmm(h.to(embed.dtype), embed.transpose(1, 2)).float()
    target = torch.bmm(teacher_h.to(teacher_embed.dtype), teacher_embed.transpose(1, 2)).float().softmax(-1)
    nats = torch.logsumexp(logits, -1) - (target * logits).sum(-1)
    return (nats * weights).sum(-1)
