#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python client, and callers of the HTTP door, against a live orchestrator whose members are recordings.

    PYTHONPATH=build/release/python:tests/integration clients/python/client_test.py build/release/bin/conclave-orchestrator
"""

import http.client
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import grpc

from conclave.deliberation.v1 import deliberation_pb2 as pb
from conclave.deliberation.v1 import graph_pb2
from conclave_client import Client, RunFailed, reason
from live_orchestrator import Orchestrator

EXAMPLES = pathlib.Path(__file__).parent / "examples"

# Three members of which two agree on 4, and disagree on the second item.
ANSWERS = {
    "easy": {"a": "2 + 2 = 4. #### 4", "b": "It is #### 4", "c": "Surely #### 5"},
    "hard": {"a": "#### 7", "b": "#### 8", "c": "#### 8"},
}


class ClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Orchestrator(BINARY, cls.folder.name, ANSWERS, token="sesame")
        cls.client = Client(cls.server.address)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.stop()
        cls.folder.cleanup()

    def test_asks_and_counts(self):
        result = self.client.ask("What is 2 + 2?", "member_vote", item_id="easy", seed=1)
        self.assertEqual(result.answer, "4")
        self.assertEqual(result.ledger.calls, 3)
        numbers = [event.sequence_number for event in result.events]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertTrue(result.events[0].HasField("run_started"))
        votes = next(e.node_finished.votes for e in result.events if e.node_path == "verdict" and e.HasField("node_finished"))
        self.assertEqual([(v.answer, v.count) for v in votes], [("4", 2), ("5", 1)])

    def test_options_reach_the_run(self):
        bound = self.client.ask("q", "single", item_id="easy", bindings={"solver": ["c"]})
        self.assertEqual(bound.answer, "5")
        with self.assertRaises(RunFailed) as failed:
            self.client.ask("q", "member_vote", item_id="easy",
                            budget=graph_pb2.Budget(calls=1, on_exhausted=graph_pb2.Budget.FAIL))
        self.assertEqual(failed.exception.state, pb.RUN_STATE_FAILED)
        tokens = [e.token_delta.text for e in self.client.events("q", "single", item_id="easy", stream_tokens=True)
                  if e.HasField("token_delta")]
        self.assertEqual("".join(tokens), ANSWERS["easy"]["a"])

    def test_the_same_request_is_the_same_run(self):
        first = self.client.ask("q", "single", item_id="hard", request_id="once")
        again = self.client.ask("q", "single", item_id="hard", request_id="once")
        self.assertEqual(first.run_id, again.run_id)
        with self.assertRaises(grpc.RpcError) as error:
            self.client.ask("another", "single", item_id="hard", request_id="once")
        self.assertEqual(error.exception.code(), grpc.StatusCode.ALREADY_EXISTS)
        self.assertEqual(reason(error.exception), "REQUEST_ID_REUSED")

    def test_runs_stay_readable(self):
        run_id = self.client.ask("q", "single", item_id="easy").run_id
        self.assertEqual(self.client.run(run_id).state, pb.RUN_STATE_SUCCEEDED)
        self.assertIn(run_id, [run.run_id for run in self.client.runs()])
        self.assertEqual([e.sequence_number for e in self.client.watch(run_id, after=2)][0], 3)
        self.assertEqual(self.client.cancel(run_id), pb.RUN_STATE_SUCCEEDED)  # it had ended
        self.assertEqual([m.name for m in self.client.members()], ["a", "b", "c"])

    def test_errors_have_names(self):
        for call, name in ((lambda: self.client.ask("q", "absent"), "GRAPH_NOT_FOUND"),
                           (lambda: self.client.run("runs/absent"), "RUN_NOT_FOUND")):
            with self.assertRaises(grpc.RpcError) as error:
                call()
            self.assertEqual(error.exception.code(), grpc.StatusCode.NOT_FOUND)
            self.assertEqual(reason(error.exception), name)
        errors = self.client.validate('name: "g" input { name: "question" } node { name: "n" pick { of: "m" } }').errors
        self.assertTrue(any('"m"' in error for error in errors), errors)

    def test_a_stream_goes_on_after_a_restart(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Orchestrator(BINARY, folder, ANSWERS)
            with Client(server.address) as client:
                events = client.events("q", "member_vote", item_id="hard")
                run_id = next(events).run_id
                server.stop(signal.SIGKILL)
                server.start(server.address)
                # What was read before the connection broke, and what follows, is the run without gap or repeat.
                numbers = [1] + [event.sequence_number for event in events]
                self.assertEqual(numbers, list(range(1, client.run(run_id).last_sequence_number + 1)))
            server.stop()

    def test_a_broken_stream_is_taken_up_where_it_broke(self):
        class Broken(grpc.RpcError):
            def code(self):
                return grpc.StatusCode.UNAVAILABLE

        def breaks_after(responses):
            yield from responses
            raise Broken()

        run_id = self.client.ask("q", "member_vote", item_id="easy").run_id
        responses = list(self.client._watch(run_id, 0, False))
        whole = [response.event for response in responses]
        for count in range(len(responses)):
            self.assertEqual(list(self.client._follow(breaks_after(responses[:count]), run_id, 0, False)), whole)
        with self.assertRaises(Broken):  # nothing says that there is a run
            list(self.client._follow(breaks_after([]), "", 0, False))

    def test_examples_run(self):
        ask = subprocess.run([sys.executable, EXAMPLES / "vote_many.py", self.server.address, self.items(), "member_vote",
                              "example"], capture_output=True, text=True, check=True)
        self.assertEqual(ask.stdout, "2 of 2 right\n")
        shown = subprocess.run([sys.executable, EXAMPLES / "ask.py", self.server.address, "2 + 2?", "member_vote"],
                               capture_output=True, text=True, check=True)
        self.assertIn("== draft (speak)", shown.stdout)  # without an item nobody has an answer

    def items(self) -> str:
        path = pathlib.Path(self.folder.name) / "items.jsonl"
        path.write_text('{"id": "easy", "question": "2 + 2?", "answer": "4"}\n'
                        '{"id": "hard", "question": "?", "answer": "8"}\n')
        return str(path)

    # ---- The door, from another language's HTTP library.

    def http(self, method, path, body=None, token="sesame"):
        connection = http.client.HTTPConnection(self.server.door, timeout=30)
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, text

    def test_the_door_lists_models_and_refuses_strangers(self):
        status, text = self.http("GET", "/v1/models")
        self.assertEqual(status, 200)
        names = [model["id"] for model in json.loads(text)["data"]]
        self.assertIn("deliberation/member_vote", names)
        self.assertIn("c", names)
        self.assertEqual(self.http("GET", "/v1/models", token="wrong")[0], 401)
        self.assertEqual(self.http("GET", "/healthz", token=None)[0], 200)
        status, text = self.http("POST", "/v1/chat/completions", {"model": "x", "messages": []})
        self.assertEqual((status, json.loads(text)["error"]["param"]), (400, "messages"))


if __name__ == "__main__":
    BINARY = sys.argv.pop(1)
    unittest.main()
