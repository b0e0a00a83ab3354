#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks every question of a JSONL file ({"id", "question", "answer"}), several at a time, and says how many were right.
Run it again after an interruption: questions that were asked are not asked anew, because each has a request id.

    PYTHONPATH=build/release/python clients/python/examples/vote_many.py 127.0.0.1:50061 questions.jsonl vote first-try
"""

import concurrent.futures
import json
import sys

from conclave_client import Client, RunFailed


def main() -> None:
    address, path, graph, name = sys.argv[1:5]
    with open(path, encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines if line.strip()]

    def ask(item):
        try:
            asked = client.ask(item["question"], graph, item_id=item["id"], request_id=f"{name}/{item['id']}", seed=1)
        except RunFailed as failure:
            print(failure, file=sys.stderr)
            return False
        return asked.answer == item["answer"]

    with Client(address) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        right = sum(pool.map(ask, items))
    print(f"{right} of {len(items)} right")


if __name__ == "__main__":
    main()
