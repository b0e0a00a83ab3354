#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks one question and shows who says what as it happens.

    PYTHONPATH=build/release/python clients/python/examples/ask.py 127.0.0.1:50061 "What is 17 * 23?" council
"""

import sys

from conclave_client import Client


def main() -> None:
    address, question = sys.argv[1:3]
    graph = sys.argv[3] if len(sys.argv) > 3 else "single"
    with Client(address) as client:
        for event in client.events(question, graph, stream_tokens=True):
            kind = event.WhichOneof("event")
            if kind == "node_started":
                print(f"\n== {event.node_path} ({event.node_started.kind})")
            elif kind == "token_delta":
                print(event.token_delta.text, end="", flush=True)
            elif kind == "call_finished":
                call = event.call_finished
                score = f", score {call.score:.2f}" if call.HasField("score") else ""
                print(f"\n-- {call.key.member}: answer {call.answer or 'none'}{score}")
            elif kind == "run_finished":
                ended = event.run_finished
                print(f"\n== {ended.answer or 'no answer'}: {ended.ledger.calls} calls, "
                      f"{ended.ledger.output_tokens} tokens written")


if __name__ == "__main__":
    main()
