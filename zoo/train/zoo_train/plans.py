# SPDX-License-Identifier: Apache-2.0
"""Which models are trained, and on how much."""
from __future__ import annotations

from dataclasses import dataclass, replace

from .batches import CRITIC_WEIGHT, CRITIC_WEIGHT_STEPS
from .pool import ROLE_SHARES
from .shapes import LARGE, MEMBER, MIXTURE, TINY_DENSE, TINY_MIXTURE, Shape
from .trainer import Plan


@dataclass(frozen=True)
class Model:
    name: str
    shape: Shape
    members: int
    tokens: int  # each member sees, prompts included
    tokens_per_step: int  # of each member
    matrix_rate: float
    adam_rate: float
    teacher: str = ""  # the student learns this model's distribution
    what: str = ""
    place: int = 0  # of a model trained alone that is one of a group: which
    group: int = 0  # and of how many; 0: of none

    def plan(self, seed: int) -> Plan:
        steps = max(2, self.tokens // self.tokens_per_step)
        return Plan(self.name, seed, self.members, self.tokens_per_step, steps, self.matrix_rate, self.adam_rate,
                    warmup_steps=min(200, steps // 10 + 1), distilled=0.9 if self.teacher else 0.0)


@dataclass(frozen=True)
class Roles:
    """Of a later stage that teaches roles and rehearses the rest."""

    shares: dict  # role -> its part of the pool's documents
    seen: dict  # role -> its part of the documents that a model sees; the roles not named share what is left
    own: dict  # role -> the part of its documents that is of a member's own families; default: mixes.OWN_PART
    checks: str  # one of pool.CHECKS
    critic_weight: float  # as batches.CRITIC_WEIGHT
    group: "Model"  # whose members the models are that are trained alone


@dataclass(frozen=True)
class Profile:
    name: str
    documents: int  # in the pool
    items: dict  # role -> evaluation documents per family
    models: tuple[Model, ...]
    lanes: tuple[tuple[str, ...], ...]  # trained side by side on a GPU, one after the other on a CPU
    roles: "Roles | None" = None  # set: models go on from trained ones, to learn roles
    checks: int = 16  # that a verifier writes of one candidate, where it is asked several times

    def model(self, name: str) -> Model:
        found = [m for m in self.models if m.name == name]
        if not found:
            raise ValueError(f"profile {self.name} has no model {name!r}; it has {[m.name for m in self.models]}")
        return found[0]


MEMBER_TOKENS = 120_000_000
# As many floating-point operations as the whole group: 20 members' tokens by the ratio of the products per token.
GROUP_TOKENS = int(20 * MEMBER_TOKENS * MEMBER.forward_flops_per_token() / MIXTURE.forward_flops_per_token())

FULL = Profile(
    name="full", documents=1_200_000,
    items={"solver": 120, "judge": 40, "verifier": 40, "critic": 40, "consolidate": 30},
    models=(
        Model("members", MEMBER, 20, MEMBER_TOKENS, 16384, 0.02, 0.005,
              what="one of twenty specialised dense members"),
        Model("mixture", MIXTURE, 1, MEMBER_TOKENS, 32768, 0.02, 0.005,
              what="the mixture of experts, trained on as many tokens as one member"),
        Model("mixture-long", MIXTURE, 1, GROUP_TOKENS, 65536, 0.02, 0.005,
              what="the mixture of experts, trained for longer: on more tokens than one member"),
        Model("student", MEMBER, 1, MEMBER_TOKENS, 32768, 0.02, 0.005, teacher="mixture",
              what="a dense student of a member's shape, distilled from the mixture"),
        Model("large", LARGE, 1, MEMBER_TOKENS, 32768, 0.01, 0.003,
              what="one dense model of the mixture's total size, trained on as many tokens as one member"),
    ),
    lanes=(("members",), ("mixture", "student"), ("large",)))  # mixture-long: on request

# Two minutes on two cores: a test of the program, not of the models.
SMOKE = Profile(
    name="smoke", documents=3200,
    items={"solver": 2, "judge": 2, "verifier": 1, "critic": 1},
    models=(
        Model("members", TINY_DENSE, 3, 60 * 1024, 1024, 0.02, 0.01, what="one of three tiny dense members"),
        Model("mixture", TINY_MIXTURE, 1, 30 * 2048, 2048, 0.02, 0.01, what="a tiny mixture of experts"),
        Model("student", TINY_DENSE, 1, 20 * 1024, 1024, 0.02, 0.01, teacher="mixture", what="a tiny student"),
    ),
    lanes=(("members",), ("mixture", "student")), checks=2)

# Of documents in the pool of a later stage: enough of a verifier's and a critic's that hardly one is seen twice.
POOLED = {"verifier": 0.45, "critic": 0.30}
# First what is taught counts most, and what was known is partly forgotten; then it is learned again beside the new.
TEACH = {"verifier": 0.45, "critic": 0.30}
SETTLE = {"verifier": 0.15, "critic": 0.10, "solver": 0.45}


def _later(name: str, base: Profile, seen: dict, documents: int, tokens: int, tokens_per_step: int, rate: float,
           critic_weight: float) -> Profile:
    """Every member of the group goes on alone, so that each can have a budget of its own; and the mixture."""
    left = {r: s for r, s in ROLE_SHARES.items() if r not in POOLED}
    shares = {r: POOLED.get(r) or (1 - sum(POOLED.values())) * s / sum(left.values()) for r, s in ROLE_SHARES.items()}
    group, mixture = base.model("members"), base.model("mixture")
    budget = {"tokens": tokens, "tokens_per_step": tokens_per_step, "matrix_rate": rate, "adam_rate": rate / 4}
    members = tuple(replace(group, name=f"m{i + 1:02d}", members=1, place=i, group=group.members, **budget)
                    for i in range(group.members))
    return replace(base, name=name, documents=documents, models=(*members, replace(mixture, **budget)), lanes=(),
                   roles=Roles(shares, seen, {"verifier": 0.85}, "steps", critic_weight, group))


LATER = (
    _later("roles", FULL, TEACH, 240_000, 1_600_000, 4096, 0.006, CRITIC_WEIGHT),
    _later("settle", FULL, SETTLE, 240_000, 1_000_000, 4096, 0.004, CRITIC_WEIGHT_STEPS),
    _later("roles-smoke", SMOKE, TEACH, 2400, 20 * 1024, 1024, 0.006, CRITIC_WEIGHT),
    _later("settle-smoke", SMOKE, SETTLE, 2400, 10 * 1024, 1024, 0.004, CRITIC_WEIGHT_STEPS),
)

PROFILES = {p.name: p for p in (FULL, SMOKE, *LATER)}


def with_tokens(profile: Profile, tokens: dict[str, int]) -> Profile:
    """The profile with other budgets, by model name."""
    for name in tokens:
        profile.model(name)
    models = tuple(replace(m, tokens=tokens.get(m.name, m.tokens)) for m in profile.models)
    return replace(profile, models=models)


def with_rates(profile: Profile, rates: dict[str, float]) -> Profile:
    """The profile with other rates of matrices, by model name; those of the rest in proportion."""
    for name in rates:
        profile.model(name)
    scaled = lambda m, rate: replace(m, matrix_rate=rate, adam_rate=m.adam_rate * (rate / m.matrix_rate))  # noqa: E731
    return replace(profile, models=tuple(scaled(m, rates[m.name]) if m.name in rates else m for m in profile.models))
