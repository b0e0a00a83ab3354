# SPDX-License-Identifier: Apache-2.0
"""The training text: documents from the project's own generators, tokenised once and kept as flat arrays.

A pool is cut into shards; a shard's text depends on (seed, shard) alone, so the pool is the same for any number of
processes, and a killed run goes on with the shards that are there.
"""
from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy as np

from .shapes import CONTEXT
from .tokenizer import END_ID, PAD_ID, encode_prompts, load_tokenizer

# The part of each role among the documents. Verifying is learned late (what a candidate says can be copied, and is right
# most of the time), so it gets far more than its share of a council's calls.
ROLE_SHARES = {"solver": 0.30, "consolidate": 0.08, "prover": 0.05, "repair": 0.06, "planner": 0.03, "critic": 0.12,
               "reviser": 0.03, "verifier": 0.23, "judge": 0.10}
ROLES = tuple(ROLE_SHARES)
SHARDS_OF_ROLE = 2  # of each family
DIFFICULTY = "1-10"  # the whole dial
CHECKS = ("results", "steps")  # what verifiers and critics write out: see the data program's --checks


@dataclass(frozen=True)
class Source:
    """How documents are made: the program that prints JSON lines, and the difficulty of each family."""

    program: tuple[str, ...]
    difficulties: tuple[tuple[str, str], ...]  # (family, "A-B"), sorted
    checks: str = CHECKS[0]

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(f for f, _ in self.difficulties)

    def documents(self, family: str, role: str, split: str, seed: int, count: int) -> Iterator[dict]:
        command = [*self.program, "--family", family, "--role", role, "--seed", str(seed), "--count", str(count),
                   "--split", split, "--difficulty", dict(self.difficulties)[family], "--checks", self.checks]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
            if process.wait() != 0:
                raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")


def read_source(program: list[str], difficulties: dict[str, str], checks: str = CHECKS[0]) -> Source:
    """Asks the program for its families; `difficulties` are by family, else DIFFICULTY."""
    listed = subprocess.run([*program, "--list"], check=True, stdout=subprocess.PIPE).stdout.decode()
    table = {family: DIFFICULTY for family in listed.split()}
    unknown = set(difficulties) - set(table)
    if unknown:
        raise ValueError(f"difficulties name unknown families {sorted(unknown)}; known: {sorted(table)}")
    return Source(tuple(program), tuple(sorted((table | difficulties).items())), checks)


@dataclass
class Pool:
    """tokens [T] u16 ends with CONTEXT pads; document i is tokens[start[i] : start[i] + length[i]]."""

    tokens: np.ndarray
    start: np.ndarray  # i64
    length: np.ndarray  # i32
    prompt: np.ndarray  # i32: tokens of the prompt
    family: np.ndarray  # u8, index into families
    role: np.ndarray  # u8, index into ROLES
    families: tuple[str, ...]

    def summary(self) -> dict:
        counts = {f: int((self.family == i).sum()) for i, f in enumerate(self.families)}
        roles = {r: int((self.role == i).sum()) for i, r in enumerate(ROLES)}
        return {"documents": len(self.length), "tokens": int(self.length.sum()), "families": counts, "roles": roles,
                "completion_tokens": int((self.length - self.prompt).sum()),
                "length_mean": float(self.length.mean()), "length_max": int(self.length.max())}


def _write_shard(source: Source, family: str, role: str, seed: int, count: int, tokenizer: str, path: str) -> int:
    """Documents longer than the context are left out; returns how many."""
    tok = load_tokenizer(Path(tokenizer))
    pieces: list[np.ndarray] = []
    rows: list[tuple[int, int, int]] = []
    dropped = 0
    batch: list[dict] = []

    def flush() -> None:
        nonlocal dropped
        prompts = encode_prompts(tok, [d["messages"] for d in batch])
        for document, prompt in zip(batch, prompts):
            ids = prompt + tok.encode(document["completion"]) + [END_ID]
            if len(ids) > CONTEXT:
                dropped += 1
                continue
            pieces.append(np.asarray(ids, dtype=np.uint16))
            rows.append((len(ids), len(prompt), ROLES.index(document["role"])))
        batch.clear()

    for document in source.documents(family, role, "train", seed, count):
        batch.append(document)
        if len(batch) == 512:
            flush()
    flush()
    temporary = path + ".tmp.npz"
    np.savez(temporary, tokens=np.concatenate([np.zeros(0, np.uint16), *pieces]), length=np.array([r[0] for r in rows], np.int32),
             prompt=np.array([r[1] for r in rows], np.int32), role=np.array([r[2] for r in rows], np.uint8))
    os.replace(temporary, path)
    return dropped


def build_pool(source: Source, seed: int, documents: int, tokenizer: Path, folder: Path, processes: int,
               shares: dict[str, float]) -> Pool:
    """`documents` in all, the same number of each family, roles by `shares`, which name all of ROLES."""
    folder.mkdir(parents=True, exist_ok=True)
    per_family = documents / len(source.families)
    stamp = folder / "pool.json"
    wanted = json.dumps({"seed": seed, "per_family": per_family, "roles": shares, "difficulties": source.difficulties,
                         "checks": source.checks})
    if stamp.exists() and stamp.read_text() != wanted:
        raise ValueError(f"{folder} holds a pool of other parameters; give another folder or remove it")
    stamp.write_text(wanted)
    jobs = [(family, role, i) for role, share in sorted(shares.items(), key=lambda r: -r[1])  # the longest first
            for family in source.families for i in range(SHARDS_OF_ROLE)]
    with ProcessPoolExecutor(processes) as executor:
        todo = []
        for family, role, i in jobs:
            path = shard_path(folder, family, role, i)
            count = max(1, round(per_family * shares[role] / SHARDS_OF_ROLE))
            if not path.exists():
                shard_seed = seed * 1000 + ROLES.index(role) * SHARDS_OF_ROLE + i
                todo.append(executor.submit(_write_shard, source, family, role, shard_seed, count, str(tokenizer),
                                            str(path)))
        for future in todo:
            future.result()
    return load_pool(folder, source.families)


def shard_path(folder: Path, family: str, role: str, i: int) -> Path:
    return folder / f"{family}-{role}-{i}.npz"


def load_pool(folder: Path, families: tuple[str, ...]) -> Pool:
    shards = [(index, np.load(shard_path(folder, f, role, i)))
              for index, f in enumerate(families) for role in ROLES for i in range(SHARDS_OF_ROLE)]
    length = np.concatenate([s["length"] for _, s in shards])
    start = np.zeros(len(length), np.int64)
    np.cumsum(length[:-1], out=start[1:])
    pads = np.full(CONTEXT + 1, PAD_ID, np.uint16)
    return Pool(tokens=np.concatenate([s["tokens"] for _, s in shards] + [pads]), start=start, length=length,
                prompt=np.concatenate([s["prompt"] for _, s in shards]),
                family=np.concatenate([np.full(len(s["length"]), i, np.uint8) for i, s in shards]),
                role=np.concatenate([s["role"] for _, s in shards]), families=families)
