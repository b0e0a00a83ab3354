# SPDX-License-Identifier: Apache-2.0
"""Tests of the training program. Run as `python zoo/train/train_test.py DATA_PROGRAM` (a ctest does); exit 77 = skipped.

One short run of everything (data, three tiny members, a tiny mixture, evaluation, cards), and what must hold of it: the
loss falls; a run killed in the middle goes on with the same curve; the same seed gives the same weights.
"""
from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

try:
    import numpy as np
    import torch
except ImportError as error:
    print(f"SKIPPED: {error}. The training program needs PyTorch and numpy")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).parent))

from zoo_train import __main__ as program  # noqa: E402
from zoo_train import cards, evaluate, generate, stages, trainer  # noqa: E402
from zoo_train.batches import PROMPT_WEIGHT, Batcher, pack_single  # noqa: E402
from zoo_train.bpe import ByteLevelBpe, word_pattern  # noqa: E402
from zoo_train.checkpoint_names import from_named, to_named  # noqa: E402
from zoo_train.generate import Generator  # noqa: E402
from zoo_train.mixes import OWN_PART, mixes_of, specialities  # noqa: E402
from zoo_train.mixture import mixture_ffn, mixture_ffn_gathered, route, swiglu  # noqa: E402
from zoo_train.model import Decoder, attend, attend_explicitly, init_parameters, project  # noqa: E402
from zoo_train.optimizer import orthogonalise  # noqa: E402
from zoo_train.pool import Pool, load_pool  # noqa: E402
from zoo_train.shapes import LARGE, MEMBER, MIXTURE, TINY_DENSE, TINY_MIXTURE, Shape  # noqa: E402
from zoo_train.tokenizer import SPECIAL, encode_prompts, load_tokenizer, train_tokenizer  # noqa: E402

DATA_PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else ""
ZOO = Path(__file__).parents[1]
MODEL = ZOO / "models" / "m01"


def logits(shape: Shape, p: dict, bias, ids: list[int]) -> torch.Tensor:
    tokens, sequences = pack_single(shape, ids)
    decoder = Decoder(shape)
    with torch.no_grad():
        h, _ = decoder.hidden(p, decoder.layer_weights(p, bias, torch.float32), tokens, sequences)
        return project(h, p["embed"])[0]


def one_by_one(s: Shape, x: torch.Tensor, w: dict) -> torch.Tensor:
    """The mixture as DeepSeek's report writes it: a loop over tokens and their experts."""
    chosen, weights = route(s, x, w["router"][0], w["router_bias"])
    rows = []
    for t in range(len(x)):
        y = swiglu(x[t] @ w["shared_gate_up"][0].T) @ w["shared_down"][0].T
        for e, weight in zip(chosen[t], weights[t]):
            y = y + weight * (swiglu(x[t] @ w["experts_gate_up"][0, e].T) @ w["experts_down"][0, e].T)
        rows.append(y)
    return torch.stack(rows)


class ModelTest(unittest.TestCase):
    def test_sizes_are_those_of_the_parameters(self):
        for shape in (MEMBER, MIXTURE, LARGE, TINY_DENSE, TINY_MIXTURE):
            p = init_parameters(shape, 1, 0)
            bias = shape.moe_layers * shape.experts
            self.assertEqual(sum(w.numel() for w in p.values()) + bias, shape.parameters()[0])

    def test_experts_as_one_by_one(self):
        s = TINY_MIXTURE
        p = {k: w[:, 0] for k, w in init_parameters(s, 1, 0).items() if w.dim() > 2}
        w = {k: v for k, v in p.items() if k.startswith(("router", "experts", "shared"))}
        w["router_bias"] = torch.randn(s.experts) * 0.1
        x = torch.randn(50, s.hidden)
        y, load = mixture_ffn(s, x, w)
        torch.testing.assert_close(y, one_by_one(s, x, w), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mixture_ffn_gathered(s, x, w), y, rtol=1e-4, atol=1e-5)
        chosen, weights = route(s, x, w["router"][0], w["router_bias"])
        self.assertEqual(load.tolist(), torch.bincount(chosen.flatten(), minlength=s.experts).tolist())
        torch.testing.assert_close(weights.sum(-1), torch.full((50,), s.route_scale))

    def test_gradients_as_one_by_one(self):
        s = TINY_MIXTURE
        w = {k: v[:, 0].requires_grad_() for k, v in init_parameters(s, 1, 0).items()
             if k.startswith(("router", "experts", "shared"))}
        w["router_bias"] = torch.zeros(s.experts)
        names = ["router", "experts_gate_up", "experts_down", "shared_down"]
        x, out = torch.randn(40, s.hidden, requires_grad=True), torch.randn(40, s.hidden)
        got = torch.autograd.grad((mixture_ffn(s, x, w)[0] * out).sum(), [x] + [w[n] for n in names])
        want = torch.autograd.grad((one_by_one(s, x, w) * out).sum(), [x] + [w[n] for n in names])
        for name, a, b in zip(["x"] + names, got, want):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)

    def test_packed_documents_do_not_see_each_other(self):
        lengths, rng = [5, 1, 9], np.random.default_rng(0)
        ids = [rng.integers(5, 512, n).tolist() for n in lengths]
        pool = Pool(np.array(sum(ids, []) + [0] * 1025, np.uint16), np.array([0, 5, 6]), np.array(lengths, np.int32),
                    np.array([2, 1, 3], np.int32), np.zeros(3, np.uint8), np.zeros(3, np.uint8), ("a",))
        batcher = Batcher(pool, np.ones((1, 1)), 17, 0, TINY_DENSE, torch.device("cpu"))
        batch = batcher.assemble(np.array([[0, 1, 2, -1]]))
        p, w = PROMPT_WEIGHT, 16.0  # completions of 3, 0 and 6 tokens count as 16
        np.testing.assert_allclose(batch.weights[0, :15].tolist(),
                                   [p, w / 3, w / 3, w / 3, 0, 0, p, p] + [w / 6] * 6 + [0], rtol=1e-3)
        self.assertEqual(batch.weights[0, 15:].tolist(), [0, 0])
        self._as_alone(batch, ids)

    def test_documents_of_all_lengths_in_one_batch(self):
        lengths, rng = [5, 130, 64, 1, 65, 70], np.random.default_rng(1)
        ids = [rng.integers(5, 512, n).tolist() for n in lengths]
        none = np.zeros(len(lengths), np.uint8)
        pool = Pool(np.array(sum(ids, []) + [0] * 1025, np.uint16), np.cumsum([0] + lengths[:-1]),
                    np.array(lengths, np.int32), np.ones(len(lengths), np.int32), none, none, ("a",))
        batcher = Batcher(pool, np.ones((1, 1)), sum(lengths) + 2, 0, TINY_DENSE, torch.device("cpu"))
        batch = batcher.assemble(np.array([[*range(len(lengths)), -1]]))
        self.assertEqual([width for _, width in batch.sequences.padded], [64, 70, 130])
        self._as_alone(batch, ids)

    def _as_alone(self, batch, ids: list[list[int]]) -> None:
        """Every document of a batch of one member gets the logits that it gets alone."""
        p = init_parameters(TINY_DENSE, 1, 3)
        decoder = Decoder(TINY_DENSE)
        with torch.no_grad():
            h, _ = decoder.hidden(p, decoder.layer_weights(p, None, torch.float32), batch.tokens, batch.sequences)
        packed = project(h, p["embed"])[0]
        at = 0
        for one in ids:
            torch.testing.assert_close(packed[at : at + len(one)], logits(TINY_DENSE, p, None, one), rtol=1e-4, atol=1e-4)
            at += len(one)

    def test_generation_agrees_with_the_whole_pass(self):
        for shape in (TINY_DENSE, TINY_MIXTURE):
            p = init_parameters(shape, 1, 5)
            bias = torch.randn(shape.moe_layers, shape.experts) * 0.05 if shape.moe_layers else None
            prompts = [[1, 3, 40, 50, 4], [1, 3, 4]]
            out = Generator(shape, p, bias, torch.float32).greedy(prompts, 12)
            for row, prompt in enumerate(prompts):
                ids = list(prompt)
                for token in out.ids(0, row):
                    self.assertEqual(int(logits(shape, p, bias, ids)[-1].argmax()), token)
                    ids.append(token)

    def test_rows_that_have_ended_are_put_away_without_a_trace(self):
        prompts = [[1, 3, *range(40, 40 + n), 4] for n in (2, 3, 9, 20, 31)]  # they end one after the other
        p = init_parameters(TINY_DENSE, 2, 5)
        generator = Generator(TINY_DENSE, p, None, torch.float32)
        with mock.patch.multiple(generate, CHECK_EVERY=1000):
            want = generator.greedy(prompts, 5, watch=(7,))
        left = []
        layer = generator._layer
        generator._layer = lambda i, x, *rest: left.append(x.shape[1]) or layer(i, x, *rest)
        with mock.patch.multiple(generate, CHECK_EVERY=1, SHRINK_AT=1.0):
            got = generator.greedy(prompts, 5, watch=(7,))
        self.assertEqual(sorted(set(left)), [1, 2, 3, 4, 5])
        self.assertTrue(torch.equal(got.tokens, want.tokens))
        torch.testing.assert_close(got.watched, want.watched)
        torch.testing.assert_close(got.margin, want.margin)

    def test_samples_are_of_the_models_distribution(self):
        copies, prompts = 3000, [[1, 3, 40, 50, 4], [1, 3, 4]]
        for shape in (TINY_DENSE, TINY_MIXTURE):
            p = init_parameters(shape, 1, 5)
            p["embed"] *= 10  # far from uniform
            bias = torch.zeros(shape.moe_layers, shape.experts) if shape.moe_layers else None
            generator = Generator(shape, p, bias, torch.float32)
            out = generator.sampled(prompts, 1, copies, temperature=2.0, seed=1)
            self.assertEqual(list(out.tokens.shape), [1, len(prompts) * copies, 1])
            for row, prompt in enumerate(prompts):
                want = torch.softmax(logits(shape, p, bias, prompt)[-1] / 2, 0)
                got = torch.bincount(out.tokens[0, row * copies : (row + 1) * copies, 0], minlength=512) / copies
                # Each frequency is binomial; their distance is about the sum of the standard errors.
                self.assertLess(float((got - want).abs().sum()), 1.3 * float((want * (1 - want) / copies).sqrt().sum()))

    def test_samples_follow_their_seed_and_at_low_temperature_the_greedy_text(self):
        p, prompts = init_parameters(TINY_DENSE, 1, 5), [[1, 3, 40, 50, 4], [1, 3, 4]]
        generator = Generator(TINY_DENSE, p, None, torch.float32)
        draw = lambda temperature, seed: generator.sampled(prompts, 9, 2, temperature, seed).tokens  # noqa: E731
        self.assertTrue(torch.equal(draw(1.0, 3), draw(1.0, 3)))
        self.assertFalse(torch.equal(draw(1.0, 3), draw(1.0, 4)))
        self.assertTrue(torch.equal(draw(1e-4, 3), generator.greedy(prompts, 9).tokens.repeat_interleave(2, 1)))

    def test_names_there_and_back(self):
        for shape in (TINY_DENSE, TINY_MIXTURE):
            p = {k: w.bfloat16().float() for k, w in init_parameters(shape, 2, 1).items()}
            bias = torch.randn(shape.moe_layers, shape.experts) if shape.moe_layers else None
            back, bias2 = from_named(shape, to_named(shape, p, bias, 1))
            for name, w in back.items():
                self.assertTrue(torch.equal(w[0], p[name][1]), name)
            self.assertTrue(bias is None or torch.equal(bias, bias2))

    def test_orthogonalised_singular_values_are_near_one(self):
        m = torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(0))
        s = torch.linalg.svdvals(orthogonalise(m))
        self.assertGreater(float(s.min()), 0.5)
        self.assertLess(float(s.max()), 1.5)


    def test_attention_is_a_mean_of_what_was_seen(self):
        g = torch.Generator().manual_seed(0)
        q, k, v = (torch.randn(2, 3, 7, n, generator=g) for n in (8, 8, 5))
        for causal in (False, True):
            want = torch.empty(2, 3, 7, 5)
            for b, h, t in np.ndindex(2, 3, 7):
                seen = t + 1 if causal else 7
                want[b, h, t] = torch.softmax(k[b, h, :seen] @ q[b, h, t] / 8**0.5, 0) @ v[b, h, :seen]
            for one in (attend, attend_explicitly):
                torch.testing.assert_close(one(q, k, v, causal), want, rtol=1e-4, atol=1e-5)


class TokenizerTest(unittest.TestCase):
    """zoo/goldens: ids and texts of the package `tokenizers`."""

    def test_ids_and_texts_as_the_package_gives_them(self):
        prompts = texts = 0
        tokenizer = load_tokenizer(MODEL)
        for path in sorted((ZOO / "goldens").glob("*.json")):
            golden = json.loads(path.read_text(encoding="utf-8"))
            for item in golden["logits"]:
                ids = encode_prompts(tokenizer, [[{"role": "user", "content": item["user"]}]])[0]
                self.assertEqual(ids[: len(item["ids"])], item["ids"])
                prompts += len(item["ids"]) == len(ids)
            for item in golden["greedy"]:
                self.assertEqual(tokenizer.decode(item["ids"]), item["text"])
                self.assertEqual(tokenizer.decode(tokenizer.encode(item["text"])), item["text"])
                texts += 1
        self.assertGreaterEqual(prompts, 20)
        self.assertGreaterEqual(texts, 500)

    def test_words(self):
        for text, words in (("12 ab  c", ["1", "2", " ab", "  ", "c"]), ("é\n\nx= ½", ["é", "\n\n", "x", "=", " ", "½"]),
                            ("\x1c\u2003", ["\x1c", "\u2003"]), (" ,a_1", [" ,", "a", "_", "1"])):
            self.assertEqual(word_pattern().findall(text), words)

    def test_special_tokens_and_broken_bytes(self):
        tokenizer = load_tokenizer(MODEL)
        self.assertNotIn(2, tokenizer.encode("<|end|>"))
        self.assertEqual(tokenizer.decode(list(range(5))), "".join(SPECIAL))
        first = tokenizer.ids["Ã"]  # the first byte of "é"
        self.assertEqual(tokenizer.decode([first]), "\ufffd")

    def test_other_tokenizers_are_refused(self):
        text = (MODEL / "tokenizer.json").read_text(encoding="utf-8")
        for old, new, says in (('"type":"BPE"', '"type":"Unigram"', "model.type is 'Unigram'"),
                               (r"|\\s+", "", "pre_tokenizer"), ('"normalizer":null', '"normalizer":{"type":"NFC"}', "NFC"),
                               ('"!":', '"!!!":', "lacks 1 of 256 bytes"), ('"!":', '"!":9', "not numbered")):
            self.assertIn(old, text)
            with self.assertRaisesRegex(ValueError, says):
                ByteLevelBpe(text.replace(old, new))

    def test_training_one_needs_the_package(self):
        with mock.patch.dict(sys.modules, {"tokenizers": None}), self.assertRaisesRegex(RuntimeError, "--tokenizer"):
            train_tokenizer(["a"])

    def test_training_one(self):
        try:
            import tokenizers  # noqa: F401
        except ImportError:
            self.skipTest("the package tokenizers is not installed")
        words = [f"{a}{b}{c}" for a in "bcdfghjk" for b in "aeiou" for c in "lmnpqrst"]
        tokenizer = train_tokenizer([" ".join(words)] * 2)
        self.assertEqual(tuple(tokenizer.tokens[:5]), SPECIAL)
        self.assertEqual(tokenizer.decode(tokenizer.encode("bal 12")), "bal 12")


class MeasuresTest(unittest.TestCase):
    def test_area_under_curve(self):  # by hand: pairs (positive > negative) 3 + half a tie of 6
        scores, positive = np.array([3.0, 1.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False, False])
        self.assertAlmostEqual(evaluate.area_under_curve(scores, positive), (3 + 1 + 0.5) / 6)

    def test_what_texts_say(self):
        self.assertEqual(evaluate.answer_of("1. 2 + 2 = 4\n#### 4"), "4")
        self.assertEqual(evaluate.answer_of("#### 3\n#### 1 2\nmore"), "1 2")
        self.assertEqual(evaluate.answer_of("no mark"), "")
        self.assertEqual(evaluate.named_step("Draft 1: step 12 should be 3.\nDraft 2: no mistake."), 12)
        self.assertEqual(evaluate.named_step("Draft 1: no mistake.\nDraft 2: step 3 should be 1."), 0)
        self.assertEqual(evaluate.named_step("hm"), -1)
        self.assertEqual(evaluate.named_step("1: 3 ok wrong\n2: 4 wrong -\nDraft 1: step 2 should be 4.\nDraft 2: step 1 "
                                             "should be 3."), 2)

    def test_vote_weights(self):
        # By hand: two members at 0.2 and 0.6 on 200 items, drawn half way to 0.4: p = 0.3, 0.5; ln(10 p / (1 - p)).
        np.testing.assert_allclose(cards.vote_weights([0.2, 0.6], 200), [np.log(3 / 0.7), np.log(10)])
        np.testing.assert_allclose(cards.vote_weights([1.0], 200), [np.log(0.95 * 10 / 0.05)])
        self.assertEqual(cards.best_by_family([{"a": 0.5, "b": 0.1}, {"a": 0.5, "b": 0.2}]), {"a": 0, "b": 1})

    def test_every_family_is_somebodys(self):
        families = tuple("abcdefghijklmnop")
        own = specialities(families, 20, 1)
        self.assertEqual({f for o in own for f in o}, set(families))
        self.assertEqual([len(o) for o in own[:4]], [1, 2, 3, 2])
        mixes = mixes_of(families, own)
        np.testing.assert_allclose(mixes.sum(1), 1)
        self.assertAlmostEqual(mixes[0].max(), OWN_PART + (1 - OWN_PART) / 16)


class FirstStepTest(unittest.TestCase):
    """What a run does whose first step fails. The device is only named: nothing is computed."""

    class FakeTrainer:
        def __init__(self, *errors: str):
            self.errors, self.steps, self.done = list(errors), 0, 0
            self.plan, self.shape, self.decoder = SimpleNamespace(name="fake"), TINY_DENSE, "compiled"

        def run(self, deadline, until, save):
            self.steps += 1
            if self.errors:
                raise RuntimeError(self.errors.pop(0))

    def setUp(self):
        self.run_ = SimpleNamespace(device=SimpleNamespace(type="cuda"), compiled=True, deadline=None)
        self.addCleanup(torch.use_deterministic_algorithms, False)

    def test_goes_on_with_what_works(self):
        no_kernel, shape = "x does not have a deterministic implementation", "invalid gradient at index 1"
        for errors, wanted, steps in (((), (True, True), 1), ((no_kernel,), (False, True), 2),
                                      ((shape,), (True, False), 2), ((shape, no_kernel), (False, False), 3)):
            fake = self.FakeTrainer(*errors)
            self.assertEqual(stages.first_step(self.run_, fake), wanted)
            self.assertEqual(fake.steps, steps)
            self.assertEqual(isinstance(fake.decoder, Decoder), not wanted[1])
            self.assertEqual(torch.is_deterministic_algorithms_warn_only_enabled(), not wanted[0])

    def test_what_fails_uncompiled_too_is_an_error(self):
        with self.assertRaisesRegex(RuntimeError, "second"):
            stages.first_step(self.run_, self.FakeTrainer("first", "second"))


class RunTest(unittest.TestCase):
    """The whole program, with conclave-zoo-data."""

    @classmethod
    def setUpClass(cls):
        if not DATA_PROGRAM:
            raise unittest.SkipTest("no data program given")
        cls.temporary = tempfile.TemporaryDirectory()
        cls.out = Path(cls.temporary.name) / "run"
        cls.args = ["--smoke", "--data-program", DATA_PROGRAM, "--out", str(cls.out), "--device", "cpu",
                    "--tokenizer", str(MODEL)]
        assert program.main(["data", *cls.args]) == 0
        assert program.main(["train", "members", "mixture", "student", *cls.args]) == 0
        assert program.main(["report", *cls.args]) == 0

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def _curve(self, name: str) -> list[float]:
        lines = (self.out / name / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss_mean"] for line in lines]

    def test_the_loss_falls(self):
        for name in ("members", "mixture", "student"):
            curve = self._curve(name)
            self.assertLess(curve[-1], 0.75 * curve[0], name)

    def test_a_killed_run_goes_on_with_the_same_curve(self):
        run = program.run_of(program.parse(["train", *self.args]))
        families = run.families
        model = run.profile.model("members")
        pool = load_pool(self.out / "pool", families)
        mixes = mixes_of(families, run.own(model))
        make = lambda name: trainer.Trainer(model.shape, model.plan(1), pool, mixes, Path(self.temporary.name) / name,  # noqa: E731
                                            run.device, False)
        whole = make("whole")
        whole.run(log_steps=1, until=20)
        lines = (self.out / "members" / "log.jsonl").read_text().splitlines()
        for line in map(json.loads, lines[:6]):  # the same seed, the same losses
            self.assertEqual(whole.curve[line["step"] - 1]["loss"], line["loss"])
        first = make("parts")
        first.run(log_steps=1, until=10)
        second = make("parts")  # as a new process: all it knows is the checkpoint
        self.assertEqual(second.done, 10)
        second.run(log_steps=1, until=20)
        self.assertEqual(second.curve, whole.curve)
        for name in whole.p:
            self.assertTrue(torch.equal(whole.p[name], second.p[name]), name)

    def test_another_plan_is_refused(self):
        run = program.run_of(program.parse(["train", *self.args, "--tokens", "members=123456"]))
        with self.assertRaisesRegex(ValueError, "another plan"):
            stages.train(run, run.profile.model("members"))

    def test_directories_are_complete(self):
        sums = (self.out / "models" / "SHA256SUMS").read_text()
        for name in ("m01", "m02", "m03", "mixture", "student"):
            for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                         "generation_config.json", "README.md"):
                self.assertIn(f"  {name}/{file}\n", sums)


if __name__ == "__main__":
    unittest.main(verbosity=2)
