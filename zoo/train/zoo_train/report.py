# SPDX-License-Identifier: Apache-2.0
"""What came out, as a table beside what was hoped for, and as model cards."""
from __future__ import annotations

import json

import numpy as np

from . import stages
from .plans import Model


def _read(run: "stages.Run", model: Model, name: str) -> dict | None:
    path = run.folder / model.name / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _line(name: str, value: object, wanted: str = "") -> None:
    print(f"  {name:<52} {value!s:>12}  {wanted}")


def print_report(run: "stages.Run") -> None:
    columns, titles = {}, []
    for model in run.profile.models:
        record, evaluation = _read(run, model, "record.json"), _read(run, model, "evaluation.json")
        if not record or not evaluation:
            print(f"{model.name}: not trained, or not evaluated")
            continue
        table = np.array([[row[f] for f in run.families] for row in evaluation["accuracy"]])
        print(f"{model.name}: {record['parameters']:,} parameters, {record['active_parameters']:,} active, "
              f"{record['tokens_per_member']:,} tokens each, {record['seconds']} s, late steps {record['late_steps']}, "
              f"loss {np.mean(record['loss']):.4f}, mean accuracy {table.mean():.3f}")
        summary = evaluation["summary"]
        if model.members > 1:
            _line("own speciality minus elsewhere", round(summary["own_mean"] - summary["elsewhere_mean"], 3), ">= 0.15")
            _line("oracle minus best member", round(summary["oracle"] - summary["best_member"], 3), ">= 0.10")
            _line("best member, mean member, oracle",
                  " ".join(f"{summary[k]:.3f}" for k in ("best_member", "mean_member", "oracle")))
            columns |= {"mean": table.mean(0), "best": table.max(0), "least": table.min(0)}
            titles += ["mean", "best", "least"]
        else:
            columns[model.name] = table[0]
            titles.append(model.name)
            between = int(((table[0] >= 0.3) & (table[0] <= 0.8)).sum())
            _line("families between 30 % and 80 %", between, ">= 4 for the mixture")
        for role in ("judge", "verifier"):
            if f"{role}_auc_own" in summary:
                own = np.array(summary[f"{role}_auc_own"], dtype=float)
                _line(f"{role} AUC on own families: mean, least", f"{np.nanmean(own):.3f} {np.nanmin(own):.3f}", ">= 0.75")
        if "critic_accuracy" in summary:
            _line("critic names the wrong step: mean", round(float(np.mean(summary["critic_accuracy"])), 3),
                  f"> {evaluation['critic_constant_guess']:.3f}, the best constant guess")
        if (asked := run.folder / model.name / "verdicts.json").exists():
            rows = json.loads(asked.read_text("utf-8"))["members"]
            auc, named, guess = (np.array([r[k] for r in rows], float) for k in ("auc", "names_greedy", "constant_guess"))
            _line("AUC of several verdicts: mean, least", f"{np.nanmean(auc):.3f} {np.nanmin(auc):.3f}", ">= 0.75")
            _line("a written check names the wrong step: mean", round(float(named.mean()), 3),
                  f"> {guess.mean():.3f}, the best constant guess; {int((named > guess).sum())} of {len(rows)} above theirs")
        if "consolidate_accuracy" in summary:
            _line("consolidation of drafts: mean accuracy", round(float(np.mean(summary["consolidate_accuracy"])), 3))
        if "routing" in evaluation:
            routing = evaluation["routing"]
            _line("experts used by < 0.1 % of tokens", routing["unused_below_0.1_percent_of_tokens"], "0")
            _line("most used expert over the mean", round(routing["most_used_over_mean"], 2))
            distance = np.array(routing["family_distance"])
            _line("how far apart two families' expert use is (0..1)",
                  round(float(distance[np.triu_indices(len(distance), 1)].mean()), 3))
    print(f"\n  {'accuracy on ' + stages.ITEMS_SPLIT:<24}" + "".join(f"{t:>14}" for t in titles))
    for i, family in enumerate(run.families):
        print(f"  {family:<24}" + "".join(f"{columns[t][i]:>14.3f}" for t in titles))
