# SPDX-License-Identifier: Apache-2.0
"""A live conclave-orchestrator whose members are recordings, for tests from outside."""

import json
import pathlib
import signal
import subprocess


class Orchestrator:
    """Served from a folder of its own. `answers`: item -> member -> text. Member "a" sits where one solver is asked."""

    def __init__(self, binary, folder, answers, token=""):
        self.binary, self.folder = binary, pathlib.Path(folder)
        members = list(dict.fromkeys(member for texts in answers.values() for member in texts))
        lines = [
            json.dumps({"id": item, "model": member, "text": text})
            for item, texts in answers.items()
            for member, text in texts.items()
        ]
        (self.folder / "recorded.jsonl").write_text("\n".join(lines) + "\n")
        fleet = "".join(f'member {{ name: "{m}" recorded {{ path: "recorded.jsonl" }} }}\n' for m in members)
        fleet += 'bind { name: "dense/*" member: "*" } bind { name: "solver" member: "a" }\n'
        (self.folder / "fleet.textproto").write_text(fleet)
        self.token_flags = []
        if token:
            (self.folder / "token").write_text(token + "\n")
            self.token_flags = ["--http-token-file", self.folder / "token"]
        self.start()

    def start(self, listen="127.0.0.1:0"):
        self.process = subprocess.Popen(
            [self.binary, "--fleet", self.folder / "fleet.textproto", "--store", self.folder / "runs.sqlite",
             "--listen", listen, "--http", "127.0.0.1:0", "--log-level", "off", *self.token_flags],
            stdout=subprocess.PIPE, text=True)
        self.address, self.door = (self.process.stdout.readline().split()[-1] for _ in range(2))

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(30)
        self.process.stdout.close()
