# SPDX-License-Identifier: Apache-2.0
"""Byte-level BPE as tokenizer.json of this project writes it, in Python alone: text to ids and back.

The words of a text are its matches of SPLIT; a word is its UTF-8 bytes, each written as one printable character; within
a word the pair of lowest rank is merged until none is left (Sennrich et al. 2016). Words repeat, so each is merged once.
"""
from __future__ import annotations

import json
import re
import sys
import unicodedata
from functools import lru_cache
from pathlib import Path

SPLIT = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode's property
WORDS_KEPT = 1 << 16


def _category(first: str) -> str:
    """The inside of a character class: all code points whose general category begins with `first`."""
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] == first:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in ranges)


@lru_cache(maxsize=1)
def word_pattern() -> re.Pattern[str]:
    """SPLIT in the words of `re`, which knows no categories."""
    text = SPLIT.replace(r"[^\s\p{L}\p{N}]", "[^{S}{L}{N}]")
    for name, inside in ((r"\p{N}", "[{N}]"), (r"\p{L}", "[{L}]"), (r"\s", "[{S}]")):
        text = text.replace(name, inside)
    for name, inside in (("{S}", WHITE_SPACE), ("{L}", _category("L")), ("{N}", _category("N"))):
        text = text.replace(name, inside)
    return re.compile(text)


@lru_cache(maxsize=1)
def byte_characters() -> str:
    """GPT-2's alphabet: byte b is written as the b-th of these 256 characters."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return "".join(chr(b) if b in printable else chr(next(others)) for b in range(256))


class ByteLevelBpe:
    """Immutable but for the words it remembers. Text that looks like a special token stays text."""

    def __init__(self, text: str, where: str = "tokenizer.json"):
        """`text` is the file's; anything that this class does not do is refused."""
        self.file = json.loads(text)
        model = self.file["model"]
        for what, value, known in (
                ("model.type", model["type"], ("BPE",)), ("normalizer", self.file.get("normalizer"), (None,)),
                ("pre_tokenizer", _splits(self.file.get("pre_tokenizer")), (SPLIT,)),
                ("decoder.type", (self.file.get("decoder") or {}).get("type"), ("ByteLevel",)),
                ("post_processor", self.file.get("post_processor"), (None,)), ("dropout", model.get("dropout"), (None,)),
                ("byte_fallback", model.get("byte_fallback"), (False, None)),
                ("ignore_merges", model.get("ignore_merges"), (False, None)),
                ("continuing_subword_prefix", model.get("continuing_subword_prefix"), (None, "")),
                ("end_of_word_suffix", model.get("end_of_word_suffix"), (None, ""))):
            if value not in known:
                raise ValueError(f"{where}: {what} is {value!r}; known: {', '.join(map(repr, known))}")
        self.ids: dict[str, int] = model["vocab"]
        if sorted(self.ids.values()) != list(range(len(self.ids))):
            raise ValueError(f"{where}: the {len(self.ids)} entries of the vocabulary are not numbered from 0 on")
        missing = [c for c in byte_characters() if c not in self.ids]
        if missing:
            raise ValueError(f"{where}: the vocabulary lacks {len(missing)} of 256 bytes, the first {missing[0]!r}")
        pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        self.ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self.tokens = sorted(self.ids, key=self.ids.__getitem__)
        self.bytes_of = [self._bytes(token) for token in self.tokens]
        self._words: dict[str, list[int]] = {}

    @staticmethod
    def read(path: Path) -> "ByteLevelBpe":
        return ByteLevelBpe(path.read_text(encoding="utf-8"), str(path))

    @staticmethod
    def _bytes(token: str) -> bytes:
        alphabet = byte_characters()
        return bytes(alphabet.index(c) for c in token)

    def _merge(self, word: str) -> list[int]:
        alphabet = byte_characters()
        parts = [alphabet[b] for b in word.encode("utf-8")]
        while len(parts) > 1:
            ranked = [(self.ranks.get(pair, len(self.ranks)), i) for i, pair in enumerate(zip(parts, parts[1:]))]
            rank, i = min(ranked)
            if rank == len(self.ranks):
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return [self.ids[part] for part in parts]

    def encode(self, text: str) -> list[int]:
        out: list[int] = []
        for word in word_pattern().findall(text):
            ids = self._words.get(word)
            if ids is None:
                ids = self._merge(word)
                if len(self._words) < WORDS_KEPT:
                    self._words[word] = ids
            out += ids
        return out

    def decode(self, ids: list[int]) -> str:
        """Special tokens are written out; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.bytes_of[i] for i in ids).decode("utf-8", errors="replace")


def _splits(pre_tokenizer: dict | None) -> str | None:
    """The pattern of "split by it, then write bytes as characters"; None for anything else."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [])
    if [s.get("type") for s in steps] != ["Split", "ByteLevel"]:
        return None
    split, level = steps
    if split.get("behavior") != "Isolated" or split.get("invert") or level.get("add_prefix_space") or level["use_regex"]:
        return None
    return split["pattern"].get("Regex")
