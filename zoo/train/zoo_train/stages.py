# SPDX-License-Identifier: Apache-2.0
"""The stages of a run, each of which can be killed and started again: data, train, evaluate."""
from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from . import evaluate as ev
from .batches import CRITIC_WEIGHT_STEPS
from .checkpoint_names import read_model, write_model
from .generate import Generator
from .mixes import everything, mixes_of, specialities
from .model import Decoder, Parameters
from .plans import Model, Profile
from .pool import ROLE_SHARES, Pool, Source, build_pool, load_pool
from .roles import cells, mix
from .tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from .trainer import Plan, Teacher, Trainer, trained_dtype
from .verdicts import verdicts

TOKENIZER_DOCUMENTS_PER_FAMILY = 400
ITEMS_SPLIT = "development"  # "test" is left to the study


@dataclass
class Run:
    profile: Profile
    source: Source
    folder: Path
    seed: int
    device: torch.device
    compiled: bool
    processes: int
    deadline: float | None = None  # on time.monotonic
    bundle: Path | None = None  # where finished exports go as tar files
    tokenizer: Path | None = None  # a directory whose tokenizer is taken; else one is trained
    start: Path | None = None  # the directories of the models that training goes on from, by name

    @property
    def families(self) -> tuple[str, ...]:
        return self.source.families

    @property
    def new_tokens(self) -> dict[str, int]:
        return ev.NEW_TOKENS_STEPS if self.source.checks == "steps" else ev.NEW_TOKENS

    def own(self, model: Model) -> list[tuple[str, ...]]:
        """Of each member; empty for a model that specialises in nothing."""
        if model.group:
            return [specialities(self.families, model.group, self.seed)[model.place]]
        return specialities(self.families, model.members, self.seed) if model.members > 1 else [()]

    def known(self, model: Model) -> list[tuple[str, ...]]:
        """As `own`, all families where there is no speciality."""
        return [mine or self.families for mine in self.own(model)]


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _sample(source: Source, family: str, role: str, split: str, seed: int, count: int) -> list[dict]:
    keep = ("family", "role", "difficulty", "question", "answer", "messages", "completion", "label", "wrong_step")
    return [{k: d[k] for k in keep} for d in source.documents(family, role, split, seed, count)]


def make_data(run: Run) -> Pool:
    began = time.monotonic()
    with ProcessPoolExecutor(run.processes) as executor:
        samples = [executor.submit(_sample, run.source, f, "all", "train", run.seed + 77, TOKENIZER_DOCUMENTS_PER_FAMILY)
                   for f in run.families if run.tokenizer is None]
        items = {role: [executor.submit(_sample, run.source, f, role, ITEMS_SPLIT, run.seed + 99, n)
                        for f in run.families] for role, n in run.profile.items.items()}
        documents = [d for s in samples for d in s.result()]
        write_json(run.folder / "items.json", {r: [d for f in fs for d in f.result()] for r, fs in items.items()})
    if run.tokenizer is None:
        tokenizer = train_tokenizer(t for d in documents for t in (d["messages"][-1]["content"], d["completion"]))
    else:
        tokenizer = load_tokenizer(run.tokenizer)
    save_tokenizer(tokenizer, run.folder / "tokenizer")
    roles = run.profile.roles
    pool = build_pool(run.source, run.seed, run.profile.documents, run.folder / "tokenizer", run.folder / "pool",
                      run.processes, roles.shares if roles else ROLE_SHARES)
    summary = pool.summary() | {"seconds": round(time.monotonic() - began, 1), "difficulties": run.source.difficulties}
    write_json(run.folder / "data.json", summary)
    return pool


def export_name(model: Model, member: int) -> str:
    """Members have the names that the prompts of their training call them by."""
    return f"m{member + 1:02d}" if model.members > 1 else model.name


def export(run: Run, model: Model, trainer: Trainer) -> None:
    tokenizer = load_tokenizer(run.folder / "tokenizer")
    folders = []
    for member in range(model.members):
        folder = run.folder / "models" / export_name(model, member)
        write_model(folder, model.shape, trainer.p, trainer.bias, member, tokenizer)
        folders.append(folder)
    if run.bundle:
        run.bundle.mkdir(parents=True, exist_ok=True)
        temporary = run.bundle / f"{model.name}.tmp"
        with tarfile.open(temporary, "w") as tar:
            for folder in folders:
                tar.add(folder, arcname=folder.name)
        os.replace(temporary, run.bundle / f"{model.name}.tar")


def bundle_records(run: Run) -> None:
    """All JSON of the run, small enough to carry, as one tar file."""
    if not run.bundle:
        return
    temporary = run.bundle / f"records-{os.getpid()}.tmp"
    with tarfile.open(temporary, "w:gz") as tar:
        for path in sorted(run.folder.glob("*.json*")) + sorted(run.folder.glob("*/*.json*")):
            if path.parent.name != "pool":
                tar.add(path, arcname=path.relative_to(run.folder).as_posix())
    os.replace(temporary, run.bundle / "records.tar.gz")


def without_mixed_order_reductions() -> None:
    """PyTorch 2.10 and 2.11 fuse a norm with the sum over rows that is its gain's gradient, and give that gradient back
    without its leading dimensions of 1 (pytorch issue 178080), or wrongly (193061). Only `large` is wide enough to meet it."""
    from torch._inductor import config

    if hasattr(config.triton, "mix_order_reduction"):
        config.triton.mix_order_reduction = False


def first_step(run: Run, trainer: Trainer) -> tuple[bool, bool]:
    """(every kernel has a deterministic form, compiled). Where the first step fails the run goes on with the kernels
    that are deterministic, or as the program is written, and says so; a step that fails has changed nothing."""
    deterministic, compiled = True, run.compiled
    if run.device.type != "cuda":
        return deterministic, compiled
    torch.use_deterministic_algorithms(True)
    while True:
        try:
            trainer.run(run.deadline, until=trainer.done + 1, save=False)
            return deterministic, compiled
        except RuntimeError as error:
            if deterministic and "deterministic" in str(error):
                deterministic = False
                torch.use_deterministic_algorithms(True, warn_only=True)
            elif compiled and not isinstance(error, torch.cuda.OutOfMemoryError):
                compiled = False
                trainer.decoder = Decoder(trainer.shape)
            else:
                raise
            print(f"{trainer.plan.name}: goes on {'' if compiled else 'un'}compiled, "
                  f"{'' if deterministic else 'not all '}deterministic, after: {error}", flush=True)


def started(run: Run, model: Model, plan: Plan) -> tuple[Plan, tuple]:
    """The weights that a model goes on from; the plan names them."""
    if run.start is None:
        raise ValueError(f"profile {run.profile.name} goes on from trained models; name their folder with --from")
    folder = run.start / model.name
    shape, p, bias = read_model(folder)
    if shape != model.shape:
        raise ValueError(f"{folder} has the shape {shape}, profile {run.profile.name} wants {model.shape}")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return replace(plan, start=digest, critic_weight=run.profile.roles.critic_weight), (p, bias)


def train(run: Run, model: Model) -> Trainer:
    pool = load_pool(run.folder / "pool", run.families)
    plan, start, own = model.plan(run.seed), None, run.own(model)
    if run.profile.roles:
        plan, start = started(run, model, plan)
        pool, mixes = cells(pool, run.profile.roles), mix(run.families, own[0], run.profile.roles)
    else:
        if run.source.checks == "steps":
            plan = replace(plan, critic_weight=CRITIC_WEIGHT_STEPS)
        mixes = mixes_of(run.families, own) if model.members > 1 else everything(run.families)
    teacher = None
    if model.teacher:
        shape, p, bias = read_model(run.folder / "models" / model.teacher)
        teacher = Teacher(shape, {k: w.to(run.device) for k, w in p.items()},
                          None if bias is None else bias.to(run.device), trained_dtype(run.device), run.compiled)
    # Other names than the members' generators: a single model sees its own order of documents.
    identities = None if model.members > 1 else [1000 + [m.name for m in run.profile.models].index(model.name)]
    trainer = Trainer(model.shape, plan, pool, mixes, run.folder / model.name, run.device, run.compiled, identities,
                      teacher, start)
    began = time.monotonic()
    deterministic, compiled = first_step(run, trainer)
    half = plan.steps // 2
    if trainer.done < half and run.bundle:
        trainer.run(run.deadline, until=half)
        export(run, model, trainer)
    finished = trainer.run(run.deadline)
    export(run, model, trainer)
    total, active = model.shape.parameters()
    record = {"model": model.name, "plan": asdict(trainer.plan), "shape": model.shape.as_json(),
              "parameters": total, "active_parameters": active, "steps_done": trainer.done, "finished": finished,
              "late_steps": trainer.late_steps, "tokens_per_member": trainer.done * trainer.plan.tokens_per_step,
              "seconds": round(time.monotonic() - began, 1), "loss": trainer.tail_loss(),
              "device": torch.cuda.get_device_name() if run.device.type == "cuda" else platform.processor() or "cpu",
              "torch": torch.__version__, "seed": run.seed, "deterministic": deterministic, "compiled": compiled,
              "families": list(run.families), "difficulties": run.source.difficulties}
    if run.profile.roles:
        record["seen"] = run.profile.roles.seen
        before = run.start.parent / model.name / "record.json"
        if before.exists() and "seen" in (earlier := json.loads(before.read_text("utf-8"))):
            record["before"] = earlier  # a later stage too
    if own != [()]:
        record["own"] = own
    write_json(run.folder / model.name / "record.json", record)
    bundle_records(run)
    return trainer


def evaluate(run: Run, model: Model) -> dict:
    """Of the exported weights, rounded to bf16, computed in f32."""
    items = json.loads((run.folder / "items.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(run.folder / "tokenizer")
    read = [read_model(run.folder / "models" / export_name(model, m))[1:] for m in range(model.members)]
    p = {name: torch.cat([r[0][name] for r in read]).to(run.device) for name in read[0][0]}
    bias = None if read[0][1] is None else read[0][1].to(run.device)
    began = time.monotonic()
    results = ev.evaluate(Generator(model.shape, p, bias, torch.float32), items, run.families, tokenizer,
                          run.new_tokens)
    out = figures(run, model, results, ev.constant_guess(items["critic"]))
    if bias is not None:
        out["routing"] = routing(run, model, p, bias)
    out["seconds"] = round(time.monotonic() - began, 1)
    write_json(run.folder / model.name / "evaluation.json", out)
    correct = {r: results.correct[r].astype(int).tolist() for r in results.correct}
    write_json(run.folder / model.name / "answers.json", {"correct": correct, "texts": {
        r: [row[:40] for row in rows[:2]] for r, rows in results.texts.items()}})
    bundle_records(run)
    return out


def figures(run: Run, model: Model, results: ev.Results, constant_guess: float) -> dict:
    table = results.accuracy("solver")
    return {"model": model.name, "split": ITEMS_SPLIT, "items": {r: len(f) for r, f in results.family.items()},
            "accuracy": [{f: round(float(row[i]), 4) for i, f in enumerate(run.families)} for row in table],
            "by_difficulty": results.by_difficulty("solver"),
            "summary": ev.group_summary(results, run.known(model)),
            "critic_constant_guess": constant_guess, "seconds": 0.0}


def routing(run: Run, model: Model, p: Parameters, bias: torch.Tensor) -> dict:
    pool = load_pool(run.folder / "pool", run.families)
    parts = ev.routing_by_family(model.shape, p, bias, trained_dtype(run.device), pool, 16384, run.seed)
    mean = parts.mean(0)
    return {"least_used_part": float(mean.min()), "most_used_over_mean": float(mean.max() * mean.shape[-1]),
            "unused_below_0.1_percent_of_tokens": int((mean * model.shape.top_k < 0.001).sum()),
            "family_distance": [[round(float(np.abs(a - b).sum(-1).mean() / 2), 4) for b in parts] for a in parts],
            "by_family": {f: [[round(float(v), 5) for v in layer] for layer in parts[i]]
                          for i, f in enumerate(run.families)}}


def ask_verifiers(run: Run, model: Model) -> dict:
    """Of the exported weights; members about candidates of their own families, one model about all."""
    items = json.loads((run.folder / "items.json").read_text(encoding="utf-8"))["verifier"]
    own = run.known(model)
    began, rows = time.monotonic(), []
    for member, mine in enumerate(own):
        folder = run.folder / "models" / export_name(model, member)
        _, p, bias = read_model(folder)
        generator = Generator(model.shape, {k: w.to(run.device) for k, w in p.items()},
                              None if bias is None else bias.to(run.device), torch.float32)
        found = verdicts(generator, [d for d in items if d["family"] in mine], load_tokenizer(folder),
                         run.profile.checks, run.seed * 100 + model.place + member, run.new_tokens["verifier"])
        rows.append({k: round(v, 4) for k, v in asdict(found).items()})
        print(json.dumps({"model": folder.name, **rows[-1]}), flush=True)
    out = {"split": ITEMS_SPLIT, "checks": run.profile.checks, "members": rows,
           "seconds": round(time.monotonic() - began, 1)}
    write_json(run.folder / model.name / "verdicts.json", out)
    bundle_records(run)
    return out


ROLES_RECORD = "roles.json"  # beside record.json: what a later stage did, of each member; null: nothing


def gather(run: Run, into: Path) -> None:
    """Puts what a later stage made of some models into the run before: weights, evaluation, verdicts, record. Members that
    went on alone take their places in their group; the others stay what they were."""
    if run.profile.roles is None:
        raise ValueError(f"profile {run.profile.name} is no later stage; there is nothing to gather")
    read = lambda path: json.loads(path.read_text("utf-8"))  # noqa: E731
    for model in run.profile.models:
        mine = run.folder / model.name
        if not (mine / "verdicts.json").exists():
            continue
        whole = run.profile.roles.group if model.group else model
        theirs = into / whole.name
        evaluation, answers = read(theirs / "evaluation.json"), read(theirs / "answers.json")
        record = theirs / ROLES_RECORD
        verdicts = read(theirs / "verdicts.json") if (theirs / "verdicts.json").exists() else read(mine / "verdicts.json")
        then = read(record) if record.exists() else [None] * whole.members
        ev.with_member(run.families, run.known(whole), evaluation, answers["correct"]["solver"], model.place,
                       read(mine / "evaluation.json"), read(mine / "answers.json")["correct"]["solver"][0])
        verdicts["members"][model.place] = read(mine / "verdicts.json")["members"][0]
        then[model.place] = read(mine / "record.json")
        for name, value in (("evaluation", evaluation), ("answers", answers), ("verdicts", verdicts)):
            write_json(theirs / f"{name}.json", value)
        write_json(record, then)
        for path in sorted((run.folder / "models" / model.name).iterdir()):
            shutil.copyfile(path, into / "models" / model.name / path.name)


def checksums(folder: Path) -> None:
    """SHA256SUMS of everything below `folder`, as sha256sum -c reads it."""
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS"):
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")

