# SPDX-License-Identifier: Apache-2.0
"""python -m zoo_train all --data-program build/release/bin/conclave-zoo-data --out runs/zoo"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch

from . import stages
from .cards import write_cards
from .plans import PROFILES, with_rates, with_tokens
from .pool import CHECKS, read_source
from .report import print_report


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="zoo_train", description=__doc__)
    parser.add_argument("stage", choices=("all", "data", "train", "evaluate", "verdicts", "gather", "report"))
    parser.add_argument("models", nargs="*", help="for train, evaluate and verdicts: names of the profile's models")
    parser.add_argument("--data-program", required=True, nargs="+", help="conclave-zoo-data, with leading arguments")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="full")
    parser.add_argument("--smoke", action="store_const", const="smoke", dest="profile", help="as --profile smoke")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="do not compile, on a GPU")
    parser.add_argument("--sequential", action="store_true", help="one model at a time on a GPU too")
    parser.add_argument("--processes", type=int, default=2, help="that make data")
    parser.add_argument("--tokenizer", type=Path, help="a model's directory; its tokenizer is taken, none is trained")
    parser.add_argument("--from", type=Path, dest="start", help="of a profile that goes on: a folder of trained models")
    parser.add_argument("--into", type=Path, help="for gather: the --out of the run whose models went on")
    parser.add_argument("--checks", choices=CHECKS, help="what verifiers and critics write out; default: the profile's")
    parser.add_argument("--rates", default="", help="of matrices, other than the profile's: m18=0.002; the others' with them")
    parser.add_argument("--documents", type=int, help="in the pool; default: the profile's")
    parser.add_argument("--tokens", default="", help="budgets other than the profile's: members=1e8,mixture=1e8")
    parser.add_argument("--difficulty", default="", help="other than recommended: chain=3-9,sorting=4-8")
    parser.add_argument("--deadline-seconds", type=float, help="from now; training ends and exports before")
    parser.add_argument("--deadline-monotonic", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help="also write each export as a tar file into this folder")
    return parser.parse_args(argv)


def pairs(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if part)


def run_of(args: argparse.Namespace) -> stages.Run:
    profile = with_tokens(PROFILES[args.profile], {k: int(float(v)) for k, v in pairs(args.tokens).items()})
    profile = with_rates(profile, {k: float(v) for k, v in pairs(args.rates).items()})
    if args.documents:
        profile = stages.replace(profile, documents=args.documents)
    device = torch.device(args.device)
    deadline = args.deadline_monotonic
    if args.deadline_seconds is not None:
        deadline = time.monotonic() + args.deadline_seconds
    if device.type == "cuda":
        torch._dynamo.config.recompile_limit = 64  # one block serves models of several shapes
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is written
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cuda.matmul.allow_tf32 = False
        stages.without_mixed_order_reductions()
    checks = args.checks or (profile.roles.checks if profile.roles else CHECKS[0])
    return stages.Run(profile, read_source(args.data_program, pairs(args.difficulty), checks), args.out, args.seed, device,
                      device.type == "cuda" and not args.eager, args.processes, deadline, args.bundle,
                      args.tokenizer, args.start)


def train_and_evaluate(run: stages.Run, names: list[str]) -> int:
    """One model that fails does not keep the others from being trained; the status says so."""
    models = [run.profile.model(name) for name in names]
    work = [m.plan(run.seed).steps for m in models]
    end, failed = run.deadline, 0
    for i, model in enumerate(models):
        if end is not None:  # this model's share of what is left
            run.deadline = time.monotonic() + (end - time.monotonic()) * work[i] / sum(work[i:])
        try:
            stages.train(run, model)
            out = stages.evaluate(run, model)
            stages.ask_verifiers(run, model)
        except Exception:
            traceback.print_exc()
            failed = 1
            continue
        print(json.dumps({"model": model.name, "summary": out["summary"]}), flush=True)
    return failed


def run_lanes(run: stages.Run, argv: list[str], sequential: bool) -> int:
    """Each lane is a process of its own; they share the GPU, and one compiles while another trains."""
    rest = [a for a in argv if a != "all"]
    if run.deadline is not None:
        rest += ["--deadline-monotonic", str(run.deadline)]
    children = []
    for lane in run.profile.lanes:
        command = [sys.executable, "-m", "zoo_train", "train", *lane, *without_deadline(rest)]
        children.append(subprocess.Popen(command))
        if sequential:
            children[-1].wait()
    return max(child.wait() for child in children)


def without_deadline(argv: list[str]) -> list[str]:
    if "--deadline-seconds" not in argv:
        return argv
    at = argv.index("--deadline-seconds")
    return argv[:at] + argv[at + 2 :]


def main(argv: list[str]) -> int:
    args = parse(argv)
    run = run_of(args)
    if args.stage in ("all", "data"):
        pool = stages.make_data(run)
        print(json.dumps({"data": pool.summary()}), flush=True)
    status = train_and_evaluate(run, args.models) if args.stage == "train" else 0
    if args.stage == "evaluate":
        for name in args.models:
            print(json.dumps(stages.evaluate(run, run.profile.model(name))["summary"]), flush=True)
    if args.stage in ("evaluate", "verdicts"):
        for name in args.models:
            stages.ask_verifiers(run, run.profile.model(name))
    if args.stage == "gather":
        if args.into is None:
            raise ValueError("gather needs --into, the folder of the run whose models went on")
        stages.gather(run, args.into)
    if args.stage == "all" and not run.profile.lanes:
        raise ValueError(f"profile {run.profile.name} trains models by name: data, then train NAME..")
    if args.stage == "all":
        status = run_lanes(run, argv, args.sequential or run.device.type != "cuda")
    if args.stage in ("all", "report"):
        write_cards(run)
        print_report(run)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
