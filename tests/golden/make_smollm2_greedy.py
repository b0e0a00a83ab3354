# SPDX-License-Identifier: Apache-2.0
"""Writes smollm2_greedy.json: what transformers makes of the same GGUF file, dequantised to f32.

    pip install torch transformers gguf
    python tests/golden/make_smollm2_greedy.py ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf

Per prompt: its token ids, 64 greedy tokens (end-of-sequence does not stop), their log-probabilities and the gap to the
second best. Per passage: token ids and the log-probability of each token after the first, given all before it.
Run once; the file is committed, so tests need none of this.
"""
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

STEPS = 64

QUESTIONS = [
    "What is the capital of France?",
    "A farmer has 17 sheep and buys 5 more. Then 3 run away. How many sheep are left?",
    "Write a haiku about autumn rain.",
    "Explain in two sentences why the sky is blue.",
    "List three prime numbers greater than 20.",
    "Translate to German: The cat sleeps on the warm roof.",
    "Is 91 a prime number? Think step by step.",
    "Write a Python function that reverses a string.",
    "What would happen if the Moon were twice as heavy?",
    "Summarise the plot of Romeo and Juliet in one paragraph.",
    "Tom reads 12 pages a day. How many pages does he read in two weeks?",
    "Name the largest ocean and one animal that lives in it.",
]

# Continued as plain text, without the chat's frame.
TEXTS = [
    "The committee met on Tuesday to discuss",
    "def fibonacci(n):\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n",
    "1, 1, 2, 3, 5, 8, 13,",
    "Once upon a time, in a village by the sea,",
    "Water boils at 100 degrees Celsius at sea level, but",
    "| city | country |\n| --- | --- |\n| Paris | France |\n|",
    "Dear Sir or Madam,\n\nI am writing to",
    "Three judges disagreed about the proof. The first said that",
]

# Written for this file.
PASSAGES = [
    """A bridge was built over the river in the autumn of the year in which the mill burned down. Nobody could say who had
paid for it. The baker thought the widow of the miller had, because she no longer wanted to walk past the black beams on
her way to church; the schoolmaster thought it was the county, which needed the road for its grain carts. Both were partly
right. The widow had given the stone, which lay about her yard and reminded her of the fire, and the county had sent four
masons and a boy. When the last stone was set, the boy scratched a small fish into the mortar where he believed that nobody
would look. It is still there, and children who are taken to see it are told that it swims upstream one inch every hundred
years. The arithmetic of this has been checked by several of them, and the fish is expected to reach the far bank in about
forty thousand years, provided that the river does not change its mind first.""",
    """To measure how fast a program runs, run it more than once. The first run is slow because its files are not yet in
memory, and the second may be slow because some other program woke up at the wrong moment. Take the median of many runs, say
how much they scatter, and write down the machine. If a change makes the program two percent faster but the runs scatter by
five percent, nothing has been shown. Then ask what the limit is: a loop that adds numbers cannot be faster than memory can
deliver them, and a program that already reads memory at full speed will not gain from cleverer arithmetic. Only when the
measurement is repeatable and the limit is known does it make sense to open the editor. Most of the time the largest gain
comes from not doing the work at all, the second largest from doing it once instead of many times, and only the third from
doing it with better instructions. People like to start with the third because it is the most fun.""",
]


@torch.no_grad()
def greedy(model, prompt_ids):
    """Tokens, their log-probabilities, and the distance from the best to the second best, step by step."""
    ids = torch.tensor([prompt_ids])
    past, tokens, logprobs, gaps = None, [], [], []
    for _ in range(STEPS):
        out = model(ids, past_key_values=past, use_cache=True)
        past = out.past_key_values
        logp = torch.log_softmax(out.logits[0, -1].double(), dim=-1)
        top = torch.topk(logp, 2)
        tokens.append(int(top.indices[0]))
        logprobs.append(round(float(top.values[0]), 5))
        gaps.append(round(float(top.values[0] - top.values[1]), 5))
        ids = torch.tensor([[tokens[-1]]])
    return tokens, logprobs, gaps


@torch.no_grad()
def passage_logprobs(model, ids):
    logp = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
    return [round(float(logp[i, ids[i + 1]]), 5) for i in range(len(ids) - 1)]


def main():
    path = os.path.abspath(sys.argv[1])
    folder, name = os.path.split(path)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    prompts = []
    for question in QUESTIONS:
        text = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False,
                                             add_generation_prompt=True)
        prompts.append((question, text))
    prompts += [("", text) for text in TEXTS]
    result = {"model": name, "reference": "transformers, weights dequantised to f32, eager attention, f32", "prompts": [],
              "passages": []}
    for question, text in prompts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens, logprobs, gaps = greedy(model, ids)
        print(repr(text[-40:]), "->", repr(tokenizer.decode(tokens)[:70]), flush=True)
        result["prompts"].append({"question": question, "text": text, "prompt_tokens": ids, "tokens": tokens,
                                  "logprobs": logprobs, "gaps": gaps})
    for text in PASSAGES:
        text = text.replace("\n", " ")
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        result["passages"].append({"text": text, "tokens": ids, "logprobs": passage_logprobs(model, ids)})
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "smollm2_greedy.json")
    with open(out, "w") as file:
        file.write("{\n" + ",\n".join(
            f"{json.dumps(key)}: " + (json.dumps(value) if isinstance(value, str) else
                                      "[\n" + ",\n".join(json.dumps(v) for v in value) + "\n]")
            for key, value in result.items()) + "\n}\n")


if __name__ == "__main__":
    main()
