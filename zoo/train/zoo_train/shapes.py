# SPDX-License-Identifier: Apache-2.0
"""What the models are, as data. Names of dimensions follow Hugging Face's config.json."""
from __future__ import annotations

from dataclasses import asdict, dataclass

VOCABULARY = 512
CONTEXT = 1024


@dataclass(frozen=True)
class Shape:
    """A decoder: GQA or MLA attention, dense or mixture feed-forward. Every width is a multiple of 32 but MLA's halves."""

    family: str  # Hugging Face's model_type: "qwen3" or "deepseek_v3"
    hidden: int
    layers: int
    heads: int
    head_dim: int  # of q and k; in MLA nope_dim + rope_dim
    feed_forward: int  # of dense layers
    kv_heads: int = 0  # GQA only
    vocab: int = VOCABULARY
    context: int = CONTEXT
    rope_theta: float = 10000.0
    epsilon: float = 1e-6
    # MLA
    kv_rank: int = 0
    nope_dim: int = 0
    rope_dim: int = 0
    value_dim: int = 0
    # Mixture
    experts: int = 0
    top_k: int = 0
    expert_ffn: int = 0
    shared_experts: int = 0
    dense_layers: int = 0  # the first layers, without experts
    route_scale: float = 1.0

    @property
    def mla(self) -> bool:
        return self.kv_rank > 0

    @property
    def moe_layers(self) -> int:
        return self.layers - self.dense_layers if self.experts else 0

    def attention_parameters(self) -> int:
        d, h = self.hidden, self.heads
        if self.mla:
            return (d * h * self.head_dim + d * (self.kv_rank + self.rope_dim) + self.kv_rank
                    + self.kv_rank * h * (self.nope_dim + self.value_dim) + h * self.value_dim * d)
        return d * self.head_dim * (2 * h + 2 * self.kv_heads) + 2 * self.head_dim

    def parameters(self) -> tuple[int, int]:
        """(total, active per token); the tied embedding counts once in both, the router and its bias are active."""
        d = self.hidden
        common = self.vocab * d + d + self.layers * (self.attention_parameters() + 2 * d)
        dense = (self.layers - self.moe_layers) * 3 * d * self.feed_forward
        expert = 3 * d * self.expert_ffn
        always = self.moe_layers * (self.shared_experts * expert + (d + 1) * self.experts)
        total = common + dense + always + self.moe_layers * self.experts * expert
        active = common + dense + always + self.moe_layers * self.top_k * expert
        return total, active

    def forward_flops_per_token(self, kv_tokens: float = 0.0) -> float:
        """2 per active weight of a product (the embedding is a product once, as the head), and attention's share."""
        d = self.hidden
        weights = self.parameters()[1] - d * (2 * self.layers + 1)
        value = self.value_dim if self.mla else self.head_dim
        return 2.0 * weights + 2.0 * self.layers * self.heads * (self.head_dim + value) * kv_tokens

    def as_json(self) -> dict:
        return asdict(self)


MEMBER = Shape(family="qwen3", hidden=96, layers=4, heads=4, kv_heads=1, head_dim=32, feed_forward=128)
LARGE = Shape(family="qwen3", hidden=256, layers=8, heads=8, kv_heads=4, head_dim=32, feed_forward=768)
MIXTURE = Shape(family="deepseek_v3", hidden=64, layers=3, heads=4, head_dim=32, feed_forward=128, kv_rank=32,
                nope_dim=16, rope_dim=16, value_dim=16, experts=256, top_k=8, expert_ffn=64, shared_experts=1,
                dense_layers=1, route_scale=2.5)
# For tests: seconds on one core.
TINY_DENSE = Shape(family="qwen3", hidden=32, layers=2, heads=2, kv_heads=1, head_dim=32, feed_forward=64)
TINY_MIXTURE = Shape(family="deepseek_v3", hidden=32, layers=2, heads=2, head_dim=32, feed_forward=64, kv_rank=32,
                     nope_dim=16, rope_dim=16, value_dim=16, experts=16, top_k=4, expert_ffn=32, shared_experts=1,
                     dense_layers=1, route_scale=2.5)
