# SPDX-License-Identifier: Apache-2.0
"""DeepSeek-V3's feed-forward: sigmoid gate, selection bias, shared expert, and experts run as one grouped product."""
from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from .shapes import Shape

GATHERED_ROWS_MAX = 2048  # tokens whose experts' weights are gathered at once, in generation


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def route(s: Shape, x: torch.Tensor, router: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [N, D] -> experts [N, k] and weights [N, k] f32. The bias [E] takes part in the choice alone."""
    scores = torch.sigmoid(F.linear(x.float(), router))
    chosen = torch.topk(scores.detach() + bias, s.top_k, dim=-1).indices
    weights = scores.gather(-1, chosen)
    return chosen, weights / (weights.sum(-1, keepdim=True) + 1e-20) * s.route_scale


# Gathers in both directions and no scatter, so that gradients are deterministic. `order` [N * k] says which (token,
# slot) stands at each row in expert order, `inverse` where each (token, slot) stands.
def gather_rows(x: torch.Tensor, order: torch.Tensor, k: int) -> torch.Tensor:
    return x[torch.div(order, k, rounding_mode="floor")]


def gather_sum(y: torch.Tensor, inverse: torch.Tensor, k: int) -> torch.Tensor:
    return y[inverse].unflatten(0, (-1, k)).sum(1)


def gather_weighted_sum(y: torch.Tensor, weights: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    return (y[inverse].unflatten(0, (-1, weights.shape[1])) * weights[..., None].to(y.dtype)).sum(1)


def combine_gradients(grad, y, weights, order, inverse):
    k = weights.shape[1]
    grad_y = grad[torch.div(order, k, rounding_mode="floor")] * weights.flatten()[order][:, None].to(grad.dtype)
    grad_w = (y[inverse].unflatten(0, (-1, k)).float() * grad[:, None].float()).sum(-1)
    return grad_y, grad_w.to(weights.dtype)


EAGER = SimpleNamespace(swiglu=swiglu, route=route, gather_rows=gather_rows, gather_sum=gather_sum,
                        gather_weighted_sum=gather_weighted_sum, combine_gradients=combine_gradients)


def compiled_pieces() -> SimpleNamespace:
    return SimpleNamespace(**{name: torch.compile(f, dynamic=False) for name, f in vars(EAGER).items()})


class _Dispatch(torch.autograd.Function):
    """x [N, D] -> rows in expert order [N * k, D]."""

    @staticmethod
    def forward(ctx, x, order, inverse, k, f):
        ctx.save_for_backward(inverse)
        ctx.k, ctx.f = k, f
        return f.gather_rows(x, order, k)

    @staticmethod
    def backward(ctx, grad):
        (inverse,) = ctx.saved_tensors
        return ctx.f.gather_sum(grad, inverse, ctx.k), None, None, None, None


class _Combine(torch.autograd.Function):
    """y [N * k, D] in expert order, weights [N, k] -> [N, D]."""

    @staticmethod
    def forward(ctx, y, weights, order, inverse, f):
        ctx.save_for_backward(y, weights, order, inverse)
        ctx.f = f
        return f.gather_weighted_sum(y, weights, inverse)

    @staticmethod
    def backward(ctx, grad):
        return *ctx.f.combine_gradients(grad.contiguous(), *ctx.saved_tensors), None, None, None


def grouped_product(rows: torch.Tensor, w: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """rows [R, in] in expert order, w [E, out, in], ends [E] i32 -> [R, out]: each row by its expert's matrix."""
    if rows.is_cuda and rows.dtype == torch.bfloat16:
        return torch._grouped_mm(rows, w.transpose(1, 2), offs=ends)
    counts = torch.diff(ends, prepend=ends.new_zeros(1))
    most = max(1, int(counts.max()))
    expert = torch.repeat_interleave(torch.arange(len(counts), device=rows.device), counts)
    place = expert * most + torch.arange(len(rows), device=rows.device) - (ends - counts)[expert]
    padded = rows.new_zeros(len(counts) * most, rows.shape[1]).index_copy(0, place, rows)
    return torch.bmm(padded.unflatten(0, (-1, most)), w.transpose(1, 2)).flatten(0, 1)[place]


def mixture_ffn(s: Shape, x: torch.Tensor, w: dict[str, torch.Tensor], f: SimpleNamespace = EAGER):
    """x [N, D] f32 -> y [N, D], and how many tokens each expert got [E] i64. Weights have G = 1 in front."""
    chosen, weights = f.route(s, x, w["router"][0], w["router_bias"])
    keys = chosen.flatten().to(torch.uint8 if s.experts <= 256 else torch.int16)  # few bits sort faster
    sorted_experts, order = torch.sort(keys, stable=True)
    inverse = torch.argsort(order.to(torch.int32))
    ends = torch.searchsorted(sorted_experts.to(torch.int32),
                              torch.arange(s.experts, dtype=torch.int32, device=x.device), right=True)
    offsets = ends.to(torch.int32)
    h = x.to(w["experts_gate_up"].dtype)
    rows = _Dispatch.apply(h, order, inverse, s.top_k, f)
    y = grouped_product(f.swiglu(grouped_product(rows, w["experts_gate_up"][0], offsets)), w["experts_down"][0], offsets)
    routed = _Combine.apply(y, weights, order, inverse, f)
    shared = F.linear(swiglu(F.linear(h, w["shared_gate_up"][0])), w["shared_down"][0])
    return routed + shared, torch.diff(ends, prepend=ends.new_zeros(1))


@torch.no_grad()
def mixture_ffn_gathered(s: Shape, x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    """As mixture_ffn, for few tokens: each token's expert matrices are gathered. No sorting, nothing waits."""
    out = []
    for part in x.split(GATHERED_ROWS_MAX):
        chosen, weights = route(s, part, w["router"][0], w["router_bias"])
        h = part.to(w["experts_gate_up"].dtype)
        gate_up = torch.einsum("nkfd,nd->nkf", w["experts_gate_up"][0][chosen], h)
        scaled = swiglu(gate_up) * weights[..., None].to(h.dtype)
        routed = torch.einsum("nkdf,nkf->nd", w["experts_down"][0][chosen], scaled)
        out.append(routed + F.linear(swiglu(F.linear(h, w["shared_gate_up"][0])), w["shared_down"][0]))
    return torch.cat(out)
