# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/tokenizers/: small tokenizer.json files of every kind of pipeline, and what the `tokenizers`
library makes of adversarial texts with them.

    python3 tests/golden/make_tokenizers.py       # needs tokenizers
"""
import json
import pathlib
import random

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent / "tokenizers"
CORPUS = ["Janet's ducks lay 16 eggs per day. She eats three for breakfast and bakes muffins with 4933828.",
          "def f(x):\n    return x ** 2  # naïve café\n", "Straße, Übermut; 漢字仮名 交じり文 한국어", "the theory of the thermal"] * 4
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|im_start|>", "<|im_end|>"]


def byte_level(**model):
    tok = Tokenizer(models.BPE(**model))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.normalizer = normalizers.NFC()
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return tok


def train(tok, size, alphabet=(), special=SPECIAL):
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), show_progress=False,
                                                        initial_alphabet=list(alphabet)))
    return tok


def characters(**model):
    tok = Tokenizer(models.BPE(unk_token="<unk>", **model))
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    return tok


def qwen():
    tok = train(byte_level(), 400, pre_tokenizers.ByteLevel.alphabet())
    tok.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tok


def llama3():
    tok = train(byte_level(ignore_merges=True), 400, pre_tokenizers.ByteLevel.alphabet())
    tok.normalizer = None
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tok.token_to_id("<|im_start|>"))])])
    return tok


def gpt2_like():  # digits, the regex of ByteLevel itself, a leading space, letters missing from the vocabulary
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    return train(tok, 150)


def starcoder_like():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation(
        "merged_with_previous"), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    return train(tok, 400, pre_tokenizers.ByteLevel.alphabet())


def llama2():  # the normaliser makes the marks, bytes for what is not covered
    tok = characters(byte_fallback=True, fuse_unk=True)
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tok = train(tok, 500, special=special)
    keep = json.loads(tok.to_str())  # byte tokens are tokens of the model only
    keep["added_tokens"] = [a for a in keep["added_tokens"] if not a["content"].startswith("<0x")]
    tok = Tokenizer.from_str(json.dumps(keep))
    tok.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tok


def metaspace(scheme, fuse):
    tok = characters(fuse_unk=fuse)
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tok.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tok = train(tok, 200, special=["<unk>", "<s>"])
    tok.add_tokens([AddedToken("[L]", lstrip=True, normalized=False), AddedToken("[R]", rstrip=True, normalized=False),
                    AddedToken("word", single_word=True, normalized=False)])
    return tok


def normalized_tokens():  # added tokens that are looked for after normalising
    tok = train(byte_level(), 400, pre_tokenizers.ByteLevel.alphabet())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\d{2}"), "#"),
                                           normalizers.Strip()])
    tok.add_tokens([AddedToken("Ω", normalized=True), AddedToken("ab", normalized=True, single_word=True),
                    AddedToken("ﬁn", normalized=False)])
    return tok


def splits():  # the other ways to cut at a match, literal patterns, empty matches
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split("--", "merged_with_next"), pre_tokenizers.Split(Regex(r"[.!?]"), "merged_with_previous"),
        pre_tokenizers.Split(Regex(r"\s+"), "contiguous", invert=True), pre_tokenizers.Split(Regex(r"(?=[A-Z])"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    return train(tok, 400, pre_tokenizers.ByteLevel.alphabet())


O200K = "|".join(
    lead + r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?" for lead in (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*")
) + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def harmony():  # gpt-oss: words end where lower case turns to upper
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(O200K), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return train(tok, 400, pre_tokenizers.ByteLevel.alphabet(), special=[
        "<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>"])


POOLS = ["abcdeth", "0123456789", " ", " \t\n\r\u00a0\u2003\u3000\u0085\u180e\u200b", "!.?-'#*_()", "éüñÅß", "漢字한국어", "😀👍🏽",
         "\u0300\u0301\u0327\u1ac3\u036f", "٣Ⅷ½²", "ﬁſ℻", "▁Ġ｜"]
WORDS = ["the", "Janet's", "ducks", "I'LL", "don't", "word", "sword", "word.", "HTTPServer", "e\u0301", "A\u030a", "\u2126m", "--", "...", "fin",
         "ab", "cab", "Hello world"]


def texts(tok, count, seed):
    rng = random.Random(seed)
    added = [t.content for t in tok.get_added_tokens_decoder().values()]
    out = ["", " ", "\n", "a", "  two  ", "Hello\n\n  world", "x" * 70, " " * 70]
    while len(out) < count:
        parts = []
        for _ in range(rng.randint(1, 8)):
            kind = rng.random()
            if kind < 0.4:
                parts.append(rng.choice(WORDS))
            elif kind < 0.55 and added:
                parts.append(rng.choice(added))
            else:
                pool = rng.choice(POOLS)
                parts.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 4))))
            if rng.random() < 0.4:
                parts.append(" ")
        out.append("".join(parts))
    return out


def main():
    HERE.mkdir(exist_ok=True)
    made = dict(qwen=qwen(), llama3=llama3(), gpt2_like=gpt2_like(), starcoder_like=starcoder_like(), llama2=llama2(),
                metaspace_always=metaspace("always", True), metaspace_first=metaspace("first", False),
                metaspace_never=metaspace("never", True), normalized_tokens=normalized_tokens(), splits=splits(),
                harmony=harmony())
    for seed, (name, tok) in enumerate(made.items()):
        text = tok.to_str()
        if name in ("qwen", "splits"):  # merges as they were once written
            data = json.loads(text)
            data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
            text = json.dumps(data, ensure_ascii=False)
        (HERE / f"{name}.json").write_text(text + "\n")
        rows = []
        for item in texts(tok, 150, seed):
            ids = tok.encode(item, add_special_tokens=False).ids
            rows.append(dict(text=item, ids=ids, marked=tok.encode(item).ids,
                             decoded=tok.decode(ids, skip_special_tokens=False)))
        (HERE / f"{name}.vectors.json").write_text(json.dumps(dict(tokenizers=tokenizers.__version__, rows=rows),
                                                             ensure_ascii=False, separators=(",", ":")) + "\n")


main()
