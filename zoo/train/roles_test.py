# SPDX-License-Identifier: Apache-2.0
"""Tests of the later stages that teach roles. Run as `python zoo/train/roles_test.py DATA_PROGRAM` (a ctest does); exit 77 =
skipped."""
from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

try:
    import numpy as np
    import torch  # noqa: F401
except ImportError as error:
    print(f"SKIPPED: {error}. The training program needs PyTorch and numpy")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).parent))

from zoo_train import __main__ as program  # noqa: E402
from zoo_train import evaluate, roles, stages, verdicts  # noqa: E402
from zoo_train.mixes import OWN_PART  # noqa: E402
from zoo_train.plans import PROFILES  # noqa: E402
from zoo_train.pool import ROLES, Pool  # noqa: E402

DATA_PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else ""
MODEL = Path(__file__).parents[1] / "models" / "m01"


class RolesTest(unittest.TestCase):
    """What a stage that teaches roles shows to whom, and how members evaluated alone are put together."""

    def test_cells_are_of_role_and_family(self):
        families, plan = ("a", "b", "c"), PROFILES["settle"].roles
        role = np.array([ROLES.index(r) for r in ("verifier", "critic", "solver", "judge", "planner")], np.uint8)
        pool = Pool(np.zeros(9, np.uint16), np.zeros(5, np.int64), np.ones(5, np.int32), np.ones(5, np.int32),
                    np.array([0, 1, 2, 0, 2], np.uint8), role, families)
        named = roles.cells(pool, plan)
        self.assertEqual([named.families[i] for i in named.family],
                         ["verifier/a", "critic/b", "solver/c", "rest/a", "rest/c"])
        got = dict(zip(named.families, roles.mix(families, ("b",), plan)[0]))
        self.assertAlmostEqual(sum(got.values()), 1)
        for kind, part, own in (("verifier", 0.15, 0.85), ("critic", 0.1, OWN_PART), ("solver", 0.45, OWN_PART),
                                ("rest", 0.3, OWN_PART)):
            self.assertAlmostEqual(got[f"{kind}/b"], part * (own + (1 - own) / 3))
            self.assertAlmostEqual(got[f"{kind}/a"], part * (1 - own) / 3)
        np.testing.assert_allclose(roles.mix(families, (), plan)[0][:3], 0.15 / 3)

    @staticmethod
    def _results(correct: np.ndarray, scores: np.ndarray) -> evaluate.Results:
        results = evaluate.Results(("a", "b"))
        for role in ("solver", "verifier", "critic"):
            results.family[role], results.difficulty[role] = np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2])
            results.correct[role] = correct
        results.label = {r: np.array([True, False, True, False]) for r in ("verifier", "critic")}
        results.scores["verifier"] = scores
        return results

    def test_a_member_evaluated_alone_takes_its_place(self):
        rng, own = np.random.default_rng(0), [("a",), ("b",), ("a",)]
        correct, scores = rng.random((3, 4)) < 0.5, rng.random((3, 4))
        run = SimpleNamespace(families=("a", "b"), known=lambda model: [own[1]] if model.members == 1 else own)
        figures = lambda c, s: stages.figures(run, SimpleNamespace(name="x", members=len(c)), self._results(c, s), 0.5)  # noqa: E731
        want, before, after = figures(correct, scores), correct.copy(), correct.tolist()
        before[1] = ~before[1]
        group = figures(before, np.flip(scores, 0))
        group["summary"]["verifier_auc_own"] = want["summary"]["verifier_auc_own"][:1] + [0.0] + want["summary"]["verifier_auc_own"][2:]
        group["summary"]["verifier_auc_all"] = want["summary"]["verifier_auc_all"][:1] + [0.0] + want["summary"]["verifier_auc_all"][2:]
        rows = before.tolist()
        evaluate.with_member(run.families, own, group, rows, 1, figures(correct[1:2], scores[1:2]), after[1])
        self.assertEqual(group, want)
        self.assertEqual(rows, after)
        with self.assertRaisesRegex(ValueError, "member 2 answered 3 items, the group 4"):
            evaluate.with_member(run.families, own, group, rows, 1, group, [1, 0, 1])

    def test_critics_of_wrong_drafts_and_of_own_families(self):  # by hand
        results = evaluate.Results(("a", "b"))
        for role in ("solver", "critic"):
            results.family[role], results.difficulty[role] = np.array([0, 0, 1, 1]), np.ones(4, int)
            results.correct[role] = np.array([[True, False, True, True]])
        results.label["critic"] = np.array([True, True, False, True])
        summary = evaluate.group_summary(results, [("a",)])
        self.assertEqual((summary["critic_accuracy"], summary["critic_accuracy_wrong"], summary["critic_accuracy_own"]),
                         ([0.75], [0.6667], [0.5]))


class ChecksTest(unittest.TestCase):
    def test_what_checks_say(self):
        for text, step in (("1: 4 ok\n2: 9 wrong\nVERDICT: reject", 2), ("1: 4 ok\nAnswer: 4 wrong\nVERDICT: reject", 2),
                           ("1: 4 ok\nAnswer: 4 ok\nVERDICT: accept", 0), ("1: 4 ok\n2: 9", -1), ("wrong", -1),
                           ("1: a wrong\n2: b wrong\nVERDICT: accept", 1)):
            self.assertEqual(verdicts.step_called_wrong(text), step, text)

    def test_verdicts_by_hand(self):
        ok, second = "1: 4 ok\nAnswer: 4 ok\nVERDICT: accept", "1: 4 ok\n2: 9 wrong\nVERDICT: reject"
        documents = [{"label": label, "wrong_step": step} for label, step in
                     (("accept", 0), ("accept", 0), ("reject", 2), ("reject", 1))]
        got = verdicts.summarised(documents, [ok, second, second, "hm"],
                                  [[ok, ok], [ok, second], [second, second], [ok, second]])
        # Mean verdicts 1, 1/2 of the right and 0, 1/2 of the wrong: 3 pairs won, one tied. One by one: 1, 1 against 0, 1
        # (two won, two tied) and 1, 0 against 0, 0 (two won, two tied).
        self.assertAlmostEqual(got.auc, 3.5 / 4)
        self.assertAlmostEqual(got.auc_one, 0.75)
        self.assertEqual((got.names_greedy, got.names_most, got.names_wrong), (0.5, 0.75, 0.5))
        self.assertEqual((got.constant_guess, got.candidates), (0.5, 4))


class StageTest(unittest.TestCase):
    """A stage after a run that is too short to learn anything, with conclave-zoo-data."""

    @staticmethod
    def _args(profile: str, out: Path) -> list[str]:
        return ["--profile", profile, "--data-program", DATA_PROGRAM, "--out", str(out), "--device", "cpu", "--tokenizer",
                str(MODEL)]

    @classmethod
    def setUpClass(cls):
        if not DATA_PROGRAM:
            raise unittest.SkipTest("no data program given")
        cls.temporary = tempfile.TemporaryDirectory()
        cls.out = Path(cls.temporary.name) / "run"
        args = [*cls._args("smoke", cls.out), "--tokens", "members=2048,mixture=4096"]
        assert program.main(["data", *args]) == 0
        assert program.main(["train", "members", "mixture", *args]) == 0

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_other_rates(self):
        run = program.run_of(program.parse(["train", *self._args("smoke", self.out), "--rates", "mixture=0.005"]))
        rates = {m.name: (m.matrix_rate, m.adam_rate) for m in run.profile.models}
        self.assertEqual(rates, {"members": (0.02, 0.01), "mixture": (0.005, 0.0025), "student": (0.02, 0.01)})

    def test_roles_are_taught_to_what_was_trained(self):
        out, into = Path(self.temporary.name) / "roles", Path(self.temporary.name) / "gathered"
        shutil.copytree(self.out, into)
        args = self._args("roles-smoke", out)
        self.assertEqual(program.main(["data", *args]), 0)
        run = program.run_of(program.parse(["train", *args]))
        with self.assertRaisesRegex(ValueError, "--from"):
            stages.train(run, run.profile.model("m02"))
        args += ["--from", str(self.out / "models")]
        self.assertEqual(program.main(["train", "m02", *args]), 0)
        self.assertEqual(program.main(["gather", *args, "--into", str(into)]), 0)
        self.assertEqual(program.main(["report", *self._args("smoke", into)]), 0)
        then = json.loads((into / "members" / "roles.json").read_text())
        self.assertEqual([r and r["model"] for r in then], [None, "m02", None])
        self.assertEqual(then[1]["plan"]["start"], self._digest(self.out, "m02"))
        for name, same in (("m01", True), ("m02", False), ("m03", True), ("mixture", True)):
            self.assertEqual(self._digest(into, name) == self._digest(self.out, name), same, name)
            says = "then taught roles" in (into / "models" / name / "README.md").read_text()
            self.assertEqual(says, not same, name)
        self.assertEqual(self._digest(into, "m02"), self._digest(out, "m02"))
        curve = [json.loads(line)["loss_mean"] for line in (out / "m02" / "log.jsonl").read_text().splitlines()]
        self.assertLess(curve[-1], curve[0])

    @staticmethod
    def _digest(out: Path, name: str) -> str:
        return hashlib.sha256((out / "models" / name / "model.safetensors").read_bytes()).hexdigest()


if __name__ == "__main__":
    unittest.main(verbosity=2)
