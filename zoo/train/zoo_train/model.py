# SPDX-License-Identifier: Apache-2.0
"""The decoders, as functions of stacked parameters.

Every parameter has a leading dimension G (members) and, per layer, a second one L; G members run as one batched
product. Activations are [G, N, ..]: N tokens of each member, packed documents back to back. Weights y = x W^T, W
[out, in], as in Hugging Face's files. Matrix products run in `Precision`, the residual stream in float32.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .mixture import EAGER, compiled_pieces, mixture_ffn, swiglu
from .shapes import Shape

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before PyTorch 2.10: the padded form serves every device
    varlen_attn = None

Parameters = dict[str, torch.Tensor]


def parameter_shapes(s: Shape) -> dict[str, tuple[int, tuple[int, ...]]]:
    """name -> (how many layers have it, 0 for a parameter of no layer; shape of one)."""
    d, h = s.hidden, s.heads
    shapes: dict[str, tuple[int, tuple[int, ...]]] = {
        "embed": (0, (s.vocab, d)), "final_norm": (0, (d,)),
        "attn_norm": (s.layers, (d,)), "ffn_norm": (s.layers, (d,)),
    }
    if s.mla:
        shapes |= {"q": (s.layers, (h * s.head_dim, d)), "kv_a": (s.layers, (s.kv_rank + s.rope_dim, d)),
                   "kv_norm": (s.layers, (s.kv_rank,)),
                   "kv_b": (s.layers, (h * (s.nope_dim + s.value_dim), s.kv_rank)),
                   "o": (s.layers, (d, h * s.value_dim))}
    else:
        shapes |= {"q": (s.layers, (h * s.head_dim, d)), "k": (s.layers, (s.kv_heads * s.head_dim, d)),
                   "v": (s.layers, (s.kv_heads * s.head_dim, d)), "q_norm": (s.layers, (s.head_dim,)),
                   "k_norm": (s.layers, (s.head_dim,)), "o": (s.layers, (d, h * s.head_dim))}
    dense = s.layers - s.moe_layers
    shapes |= {"gate_up": (dense, (2 * s.feed_forward, d)), "down": (dense, (d, s.feed_forward))}
    if s.moe_layers:
        m, f, fs = s.moe_layers, s.expert_ffn, s.expert_ffn * s.shared_experts
        shapes |= {"router": (m, (s.experts, d)), "experts_gate_up": (m, (s.experts, 2 * f, d)),
                   "experts_down": (m, (s.experts, d, f)), "shared_gate_up": (m, (2 * fs, d)),
                   "shared_down": (m, (d, fs))}
    return shapes


def init_parameters(s: Shape, members: int, seed: int) -> Parameters:
    """On the CPU, so that a seed gives the same weights on every device; one generator per member."""
    names = parameter_shapes(s)
    stacks: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    for member in range(members):
        g = torch.Generator().manual_seed(seed * 1000 + member)
        for name, (layers, shape) in names.items():
            full = (layers, *shape) if layers else shape
            if name.endswith("norm"):
                w = torch.ones(full)
            elif name == "embed":
                w = torch.randn(full, generator=g) * 0.05
            else:
                std = 1.0 / math.sqrt(shape[-1])
                if name in ("o", "down", "experts_down", "shared_down"):
                    std /= math.sqrt(2 * s.layers)
                w = torch.randn(full, generator=g) * std
            stacks[name].append(w)
    return {name: torch.stack(ws) for name, ws in stacks.items()}


@dataclass
class Sequences:
    """Where the packed documents of a batch begin, for attention and rotation. T = G * N tokens in all."""

    cos: torch.Tensor  # [T, R/2]
    sin: torch.Tensor
    bounds: torch.Tensor  # [D + 1] i32, cumulative
    longest: int
    position: torch.Tensor | None = None  # [T] i64, for another model's rotation of the same batch
    # Padded form, for devices without variable-length attention: groups of rows of equal length, each with the token at
    # every place [rows * length] and that length; and where in all groups together each token is [T].
    padded: list[tuple[torch.Tensor, int]] | None = None
    packed: torch.Tensor | None = None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def rotary_table(s: Shape, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """cos, sin [context, R/2]."""
    width = s.rope_dim if s.mla else s.head_dim
    inverse = 1.0 / (s.rope_theta ** (torch.arange(0, width, 2, dtype=torch.float64) / width))
    angle = torch.arange(s.context, dtype=torch.float64)[:, None] * inverse
    return angle.cos().float().to(device), angle.sin().float().to(device)


def rotate_half_split(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [T, H, R]; pairs (i, i + R/2), as Llama and Qwen."""
    a, b = x.float().chunk(2, dim=-1)
    c, s = cos[:, None], sin[:, None]
    return torch.cat((a * c - b * s, b * c + a * s), dim=-1)


def rotate_interleaved(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [T, H, R]; pairs (2i, 2i + 1), as DeepSeek."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[:, None], sin[:, None]
    return torch.stack((a * c - b * s, b * c + a * s), dim=-1).flatten(-2)


def attend_explicitly(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    """softmax(q k^T / sqrt(Dk)) v: q [B, H, T, Dk], k [B, H, S, Dk], v [B, H, S, Dv] -> [B, H, T, Dv]; causal: T = S."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(-1) @ v


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    """As attend_explicitly, in one kernel where there is one (PyTorch 2.0)."""
    if not hasattr(F, "scaled_dot_product_attention"):
        return attend_explicitly(q, k, v, causal)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seq: Sequences) -> torch.Tensor:
    """Causal within each document. q [T, H, Dk], k [T, K, Dk], v [T, K, Dv] -> [T, H, Dv]."""
    heads, kv_heads = q.shape[1], k.shape[1]
    if seq.padded is None:
        width, wide = v.shape[-1], k.shape[-1]
        if width < wide:
            v = F.pad(v, (0, wide - width))
        if kv_heads != heads:
            k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
        y = varlen_attn(q, k, v, seq.bounds, seq.bounds, seq.longest, seq.longest, window_size=(-1, 0))
        return y[..., :width]
    out = []
    for index, length in seq.padded:
        rows = [t[index].unflatten(0, (-1, length)).transpose(1, 2) for t in (q, k, v)]
        if kv_heads != heads:
            rows[1:] = (t.repeat_interleave(heads // kv_heads, dim=1) for t in rows[1:])
        out.append(attend(*rows, causal=True).transpose(1, 2).flatten(0, 1))
    return torch.cat(out)[seq.packed]


def project(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x [G, N, in], w [G, out, in] -> [G, N, out]."""
    return torch.bmm(x.to(w.dtype), w.transpose(1, 2))


def heads_gqa(s: Shape, h: torch.Tensor, w: Parameters, cos: torch.Tensor, sin: torch.Tensor):
    """Normalised x [G, N, D] -> q [T, H, Dk], k, v [T, K, Dk], rotated."""
    d, g = s.head_dim, h.shape[0]
    qkv = project(h, torch.cat((w["q"], w["k"], w["v"]), dim=1)).unflatten(-1, (-1, d))
    q, k, v = qkv.split((s.heads, s.kv_heads, s.kv_heads), dim=2)
    q = rms_norm(q, w["q_norm"].view(g, 1, 1, d), s.epsilon).flatten(0, 1)
    k = rms_norm(k, w["k_norm"].view(g, 1, 1, d), s.epsilon).flatten(0, 1)
    dtype = qkv.dtype
    return (rotate_half_split(q, cos, sin).to(dtype), rotate_half_split(k, cos, sin).to(dtype), v.flatten(0, 1))


def heads_mla(s: Shape, h: torch.Tensor, w: Parameters, cos: torch.Tensor, sin: torch.Tensor):
    """As heads_gqa; the latent is expanded, one K and V per head."""
    q = project(h, w["q"]).unflatten(-1, (s.heads, s.head_dim)).flatten(0, 1)
    dtype = q.dtype
    latent, k_rope = project(h, w["kv_a"]).split((s.kv_rank, s.rope_dim), dim=-1)
    latent = rms_norm(latent, w["kv_norm"][:, None], s.epsilon)
    kv = project(latent, w["kv_b"]).unflatten(-1, (s.heads, s.nope_dim + s.value_dim)).flatten(0, 1)
    k_nope, v = kv.split((s.nope_dim, s.value_dim), dim=-1)
    q_nope, q_rope = q.split((s.nope_dim, s.rope_dim), dim=-1)
    k_rope = rotate_interleaved(k_rope.flatten(0, 1)[:, None], cos, sin).to(dtype).expand(-1, s.heads, -1)
    q = torch.cat((q_nope, rotate_interleaved(q_rope, cos, sin).to(dtype)), dim=-1)
    return q, torch.cat((k_nope, k_rope), dim=-1), v.contiguous()


def attention_block(s: Shape, x: torch.Tensor, w: Parameters, seq: Sequences) -> torch.Tensor:
    h = rms_norm(x, w["attn_norm"][:, None], s.epsilon)
    q, k, v = (heads_mla if s.mla else heads_gqa)(s, h, w, seq.cos, seq.sin)
    y = attention(q, k, v, seq)
    return x + project(y.reshape(x.shape[0], x.shape[1], -1), w["o"])


def dense_block(s: Shape, x: torch.Tensor, w: Parameters, seq: Sequences) -> torch.Tensor:
    x = attention_block(s, x, w, seq)
    h = rms_norm(x, w["ffn_norm"][:, None], s.epsilon)
    return x + project(swiglu(project(h, w["gate_up"])), w["down"])


def cross_entropy_sums(h: torch.Tensor, embed: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor):
    """h [G, N, D], embed [G, V, D], targets [G, N] i64, weights [G, N] -> weighted sums of nats [G]."""
    logits = project(h, embed).float()
    nats = torch.logsumexp(logits, -1) - logits.gather(-1, targets[..., None]).squeeze(-1)
    return (nats * weights).sum(-1)


class Decoder:
    """The forward pass over stacked parameters. `compiled` compiles each kind of block once (all layers share it)."""

    def __init__(self, shape: Shape, compiled: bool = False):
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.shape = shape
        self._dense = wrap(dense_block)
        self._attention = wrap(attention_block)
        self._norm = wrap(rms_norm)
        self._pieces = compiled_pieces() if compiled else EAGER
        self.loss_sums = wrap(cross_entropy_sums)

    def layer_weights(self, p: Parameters, bias: torch.Tensor | None, dtype: torch.dtype) -> list[Parameters]:
        """One dictionary per layer; matrices in `dtype`, norms and the router in float32."""
        s = self.shape
        per_layer: list[Parameters] = [{} for _ in range(s.layers)]
        for name, (layers, _) in parameter_shapes(s).items():
            if not layers:
                continue
            keep = name.endswith("norm") or name == "router"
            stacked = p[name] if keep else p[name].to(dtype)
            first = s.layers - layers if name.startswith(("router", "experts", "shared")) else 0
            for i, w in enumerate(stacked.unbind(1)):
                per_layer[first + i][name] = w
        if bias is not None:
            for i in range(s.moe_layers):
                per_layer[s.dense_layers + i]["router_bias"] = bias[i]
        return per_layer

    def hidden(self, p: Parameters, layers: list[Parameters], tokens: torch.Tensor, seq: Sequences):
        """tokens [G, N] -> normalised last hidden state [G, N, D] f32, and loads [moe layers, experts]."""
        s = self.shape
        g = tokens.shape[0]
        offsets = torch.arange(g, device=tokens.device)[:, None] * s.vocab
        x = F.embedding(tokens + offsets, p["embed"].flatten(0, 1))
        loads = []
        for i, w in enumerate(layers):
            if s.moe_layers and i >= s.dense_layers:
                x = self._attention(s, x, {k: w[k] for k in ATTENTION if k in w}, seq)
                h = self._norm(x, w["ffn_norm"][:, None], s.epsilon)
                y, load = mixture_ffn(s, h[0], w, self._pieces)
                x = x + y[None]
                loads.append(load)
            else:
                x = self._dense(s, x, w, seq)
        return self._norm(x, p["final_norm"][:, None], s.epsilon), (torch.stack(loads) if loads else None)


ATTENTION = ("attn_norm", "q", "k", "v", "q_norm", "k_norm", "o", "kv_a", "kv_norm", "kv_b")
