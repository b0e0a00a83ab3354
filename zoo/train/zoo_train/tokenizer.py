# SPDX-License-Identifier: Apache-2.0
"""The tokenizer: byte-level BPE of 512 entries, every digit a token of its own, and the chat template."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Iterable

from .bpe import SPLIT, ByteLevelBpe
from .shapes import CONTEXT, VOCABULARY

PAD, BEGIN, END, USER, ASSISTANT = "<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, BEGIN, END, USER, ASSISTANT)  # ids 0..4
PAD_ID, BEGIN_ID, END_ID, USER_ID, ASSISTANT_ID = range(len(SPECIAL))

# System messages are dropped: the roles' instructions are in the user's message too, and 0.3 M parameters have better
# uses. User text goes in verbatim.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}{{ eos_token }}"
    "{% elif message['role'] != 'system' %}{{ raise_exception('unknown role ' ~ message['role']) }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str]) -> ByteLevelBpe:
    """Needs the package `tokenizers`; what it makes is used without."""
    try:
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise RuntimeError(f"{error}: install it to train a tokenizer, or give one: --tokenizer zoo/models/m01") from error

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.train_from_iterator(texts, trainer)
    size = tokenizer.get_vocab_size()
    if size != VOCABULARY:
        raise ValueError(f"the text gave a vocabulary of {size}, not {VOCABULARY}: more varied text is needed")
    return ByteLevelBpe(tokenizer.to_str())


def save_tokenizer(tokenizer: ByteLevelBpe, folder: Path) -> None:
    """tokenizer.json (compact) and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(tokenizer.file, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    added = {str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                      "special": True} for i, t in enumerate(SPECIAL)}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": added, "bos_token": BEGIN,
              "eos_token": END, "pad_token": PAD, "unk_token": None, "model_max_length": CONTEXT,
              "clean_up_tokenization_spaces": False, "add_bos_token": False, "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> ByteLevelBpe:
    tokenizer = ByteLevelBpe.read(folder / "tokenizer.json")
    if tuple(tokenizer.tokens[: len(SPECIAL)]) != SPECIAL or len(tokenizer.tokens) != VOCABULARY:
        raise ValueError(f"{folder}: the tokenizer has {len(tokenizer.tokens)} tokens and begins with "
                         f"{tokenizer.tokens[:len(SPECIAL)]}; {VOCABULARY} and {SPECIAL} are needed")
    return tokenizer


def prompt_segments(messages: list[dict]) -> list[tuple[int, str, bool]]:
    """What the chat template writes, as (special token before, text, end token after); user text stays plain text."""
    segments = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "user":
            segments.append((USER_ID, content, False))
        elif role == "assistant":
            segments.append((ASSISTANT_ID, content, True))
        elif role != "system":
            raise ValueError(f"unknown role {role!r} in a document: system, user and assistant are known")
    return segments


def encode_prompts(tokenizer: ByteLevelBpe, conversations: list[list[dict]]) -> list[list[int]]:
    """Token ids of each conversation with the generation prompt, as the chat template gives them."""
    prompts = []
    for messages in conversations:
        ids = [BEGIN_ID]
        for before, text, end in prompt_segments(messages):
            ids += [before, *tokenizer.encode(text)]
            if end:
                ids.append(END_ID)
        prompts.append([*ids, ASSISTANT_ID])
    return prompts
