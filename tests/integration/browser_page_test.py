#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The orchestrator's page in a real browser: what it shows, at two widths, and that nothing a model wrote runs.

    PYTHONPATH=build/release/python:tests/integration tests/integration/browser_page_test.py \
        build/release/bin/conclave-orchestrator /usr/bin/chromium [FOLDER for screenshots]
"""

import html
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from conclave_client import Client
from live_orchestrator import Orchestrator

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> &lt;b&gt; #### 4"
ANSWERS = {"item": {"a": HOSTILE, "b": "It is #### 4", "c": "Surely #### 5"}}


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Orchestrator(BINARY, cls.folder.name, ANSWERS)
        with Client(cls.server.address) as client:
            cls.run_id = client.ask("<i>What</i> is 2 + 2?", "debate", item_id="item").run_id

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.folder.cleanup()

    def browse(self, *flags, width=1280, height=1400, query=""):
        url = f"http://{self.server.door}/{query}#{self.run_id}"
        command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={self.folder.name}/profile",
                   f"--window-size={width},{height}", "--hide-scrollbars", "--virtual-time-budget=6000", *flags, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout

    def test_shows_the_run_and_runs_nothing(self):
        page = self.browse("--dump-dom", query="?gold=4")
        text = html.unescape(re.sub(r"<[^>]*>", " ", page))
        self.assertIn("<title>Conclave</title>", page)  # nobody changed it
        self.assertNotIn("<img", page)
        self.assertIn(HOSTILE, html.unescape(page))
        self.assertIn("<i>What</i> is 2 + 2?", html.unescape(page))
        self.assertIn("Answer: 4", text)
        self.assertRegex(page, r'<rect data-node="[a-z]+"[^>]*class="done"')
        self.assertRegex(text, r"→ [a-z_]+: \d+ tokens written")
        self.assertRegex(text, r"\d+ of \d+ answers right · 0 from wrong to right · 0 from right to wrong")
        self.assertIn("succeeded", text)

    def test_fits_a_phone_and_a_desk(self):
        for width in (390, 1280):
            out = SCREENSHOTS / f"page_{width}.png"
            self.browse(f"--screenshot={out}", width=width, query="?gold=4")
            self.assertGreater(out.stat().st_size, 10_000)


if __name__ == "__main__":
    BINARY, BROWSER = sys.argv[1:3]
    SCREENSHOTS = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp())
    del sys.argv[1:]
    unittest.main()
