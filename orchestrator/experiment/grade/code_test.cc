// SPDX-License-Identifier: Apache-2.0
// Programs in sandboxes: right ones pass, and no wrong one does, whatever it tries.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/file.h"
#include "orchestrator/experiment/grade/code/judge.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

using code::Result;

// Loud: the code grader refuses to exist here, and these tests say so.
#define SKIP_WITHOUT_SANDBOX() \
  if (!code::SandboxWorks().ok()) GTEST_SKIP() << "NO SANDBOX, code grading is untested: " << code::SandboxWorks()

const code::Problem kAdd = {
    "import math\n\n\ndef helper(x):\n    return x\n\n\ndef add(a, b):\n    \"\"\"Adds.\"\"\"\n",
    "def check(candidate):\n    assert candidate(1, 2) == helper(3)\n    assert candidate(-1, 1) == 0\n"
    "    assert candidate([1], [2.5]) == [1, 2.5]\n",
    "add"};

code::Limits Quick() {
  code::Limits limits;
  limits.cpu_seconds = 1;
  limits.wall_seconds = 20;
  return limits;
}

Result Of(const std::string& program, const code::Limits& limits = Quick()) {
  return code::RunTests(kAdd, kAdd.prompt + "    pass\n\n" + program, limits);
}

TEST(CodeTest, RightPrograms) {
  SKIP_WITHOUT_SANDBOX();
  EXPECT_EQ(Of("def add(a, b):\n    return a + b\n"), Result::kPassed);
  EXPECT_EQ(Of("import threading\ndef add(a, b):\n    out = []\n"
               "    t = threading.Thread(target=lambda: out.append(a + b))\n    t.start()\n    t.join()\n"
               "    return out[0]\n"),
            Result::kPassed);  // threads are no processes
  EXPECT_EQ(Of("def add(a, b):\n    print('x' * 100000)\n    return a + b\n"), Result::kPassed);
  EXPECT_EQ(Of("def add(a, b):\n    open('/tmp/note', 'w').write('ok')\n    return a + b\n"), Result::kPassed);
}

TEST(CodeTest, WrongPrograms) {
  SKIP_WITHOUT_SANDBOX();
  EXPECT_EQ(Of("def add(a, b):\n    return a - b\n"), Result::kFailed);
  EXPECT_EQ(Of("def add(a, b):\n    return None\n"), Result::kFailed);
  EXPECT_EQ(Of("def add(a, b):\n    return a / 0\n"), Result::kRaised);
  EXPECT_EQ(Of("def add(a, b)\n    return a + b\n"), Result::kRaised);  // does not compile
  EXPECT_EQ(Of("del add\n"), Result::kRaised);
  EXPECT_EQ(Of("def add(a, b):\n    return add(a, b)\n"), Result::kRaised);  // too deep
}

TEST(CodeTest, ProgramsThatNeverEnd) {
  SKIP_WITHOUT_SANDBOX();
  EXPECT_EQ(Of("while True:\n    pass\n"), Result::kTimeout);
  EXPECT_EQ(Of("import signal\nfor s in (signal.SIGXCPU, signal.SIGTERM):\n    signal.signal(s, signal.SIG_IGN)\n"
               "while True:\n    pass\n"),
            Result::kTimeout);
  EXPECT_EQ(Of("def add(a, b):\n    while True:\n        try:\n            while True:\n                pass\n"
               "        except BaseException:\n            pass\n"),
            Result::kTimeout);
  code::Limits limits = Quick();
  limits.wall_seconds = 2;
  EXPECT_EQ(Of("import time\ntime.sleep(1000)\n", limits), Result::kTimeout);
}

TEST(CodeTest, ProgramsThatTakeTooMuch) {
  SKIP_WITHOUT_SANDBOX();
  EXPECT_EQ(Of("def add(a, b):\n    return [0] * (1 << 31)\n"), Result::kMemory);
  EXPECT_EQ(Of("x = []\nwhile True:\n    x.append('y' * (1 << 24))\n"), Result::kMemory);
  EXPECT_EQ(Of("import os\nwhile True:\n    os.fork()\n"), Result::kRaised);  // EPERM
  EXPECT_EQ(Of("import subprocess\nsubprocess.run(['/usr/bin/true'])\n"), Result::kRaised);
  EXPECT_NE(Of("with open('/tmp/big', 'wb') as f:\n    while True:\n        f.write(b'0' * (1 << 20))\n"),
            Result::kPassed);
}

TEST(CodeTest, ProgramsThatReachOut) {
  SKIP_WITHOUT_SANDBOX();
  const std::string mark = "/tmp/conclave-code-test-mark";
  std::filesystem::remove(mark);
  EXPECT_EQ(Of("open('" + mark + "', 'w').write('x')\ndef add(a, b):\n    return 0\n"), Result::kFailed);
  EXPECT_FALSE(std::filesystem::exists(mark));  // its /tmp is its own
  EXPECT_EQ(Of("open('/usr/mark', 'w')\n"), Result::kRaised);
  EXPECT_EQ(Of("open('/mark', 'w')\n"), Result::kRaised);
  EXPECT_EQ(Of("open('/etc/passwd')\n"), Result::kRaised);
  EXPECT_EQ(Of("open('/proc/self/status')\n"), Result::kRaised);
  EXPECT_EQ(Of("import os\nos.kill(1, 9)\nos.listdir('/root')\n"), Result::kRaised);
  EXPECT_EQ(Of("import socket\nsocket.socket()\n"), Result::kRaised);
  EXPECT_EQ(Of("import urllib.request\nurllib.request.urlopen('http://127.0.0.1/')\n"), Result::kRaised);
  EXPECT_EQ(Of("import os\nassert 'CONCLAVE' not in ''.join(os.environ)\nassert len(os.environ) < 9\nraise OSError\n"),
            Result::kRaised);
}

// What makes in-process harnesses say "passed".
TEST(CodeTest, ProgramsThatCheat) {
  SKIP_WITHOUT_SANDBOX();
  const std::vector<std::pair<std::string, Result>> cheats = {
      {"import os\nprint('passed')\nos._exit(0)\n", Result::kExited},
      {"import sys\nsys.exit(0)\n", Result::kRaised},
      {"def add(a, b):\n    import os\n    os._exit(0)\n", Result::kExited},
      {"raise SystemExit\n", Result::kRaised},
      {"def check(candidate):\n    pass\n", Result::kFailed},
      {"import builtins\nbuiltins.AssertionError = ValueError\n", Result::kFailed},
      {"class Equal:\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Equal()\n",
       Result::kRaised},
      {"class Equal(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
       "def add(a, b):\n    return Equal()\n",
       Result::kFailed},
      {"import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'passed\\n')\n    except OSError:\n"
       "        pass\n",
       Result::kFailed},
      {"import os\nos.write(5, b'00000002V3' * 9)\n", Result::kFailed},
      {"import gc, sys\nfor o in gc.get_objects():\n    if isinstance(o, dict) and 'nonce' in o:\n"
       "        sys.exit('found')\ndef add(a, b):\n    return 0\n",
       Result::kFailed},
  };
  for (const auto& [program, result] : cheats) {
    const Result got = Of(program);
    EXPECT_NE(got, Result::kPassed) << program;
    EXPECT_EQ(got, result) << program;
  }
}

TEST(CodeTest, PlainAssertionsAreTestsToo) {
  SKIP_WITHOUT_SANDBOX();
  const code::Problem problem = {"", "assert twice(2) == 4\nassert sorted(twice([1])) == [1, 1]\n", ""};
  EXPECT_EQ(code::RunTests(problem, "def twice(x):\n    return x * 2\n", Quick()), Result::kPassed);
  EXPECT_EQ(code::RunTests(problem, "def twice(x):\n    return x\n", Quick()), Result::kFailed);
  EXPECT_EQ(code::RunTests(problem, "pass\n", Quick()), Result::kRaised);
}

TEST(CodeTest, FindsTheProgram) {
  SKIP_WITHOUT_SANDBOX();
  const auto grader = MakeGrader("code");
  ASSERT_OK(grader);
  const std::string gold =
      nlohmann::json{{"prompt", kAdd.prompt}, {"test", kAdd.test}, {"entry_point", kAdd.entry_point}}.dump();
  const auto grade = [&](std::string_view text) { return (*grader)->GradeText(text, {gold, {}}); };
  EXPECT_EQ(grade("Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.").rule, "code/passed");
  EXPECT_EQ(grade("```python\ndef add(a, b):\n    return a + b\n```\nUse:\n```\nadd(1, 2)\n```").rule, "code/passed");
  EXPECT_EQ(grade("    return a + b\n\ndef other():\n    broken(").rule, "code/passed");  // a continuation
  EXPECT_EQ(grade("return a + b").rule, "code/passed");                                   // its indentation lost
  EXPECT_EQ(grade("<think>```\ndef add(a, b): return 0\n```</think>\ndef add(a, b):\n    return a + b").outcome,
            Outcome::kCorrect);
  EXPECT_EQ(grade("    return a * b").outcome, Outcome::kWrong);
  EXPECT_EQ(grade("").outcome, Outcome::kNoAnswer);
  EXPECT_EQ((*grader)->GradeText("pass", {"{\"prompt\": 1}", {}}).outcome, Outcome::kGraderError);
}

// All 164 of HumanEval: the canonical solution passes, the empty one does not.
TEST(CodeTest, HumanEval) {
  SKIP_WITHOUT_SHARED(path, "data/benchmarks/humaneval/HumanEval.jsonl.gz");
  SKIP_WITHOUT_SANDBOX();
  const auto text = ReadMaybeGzip(path);
  ASSERT_OK(text);
  const auto grader = MakeGrader("code");
  ASSERT_OK(grader);
  std::vector<nlohmann::json> rows;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(rows.size(), 164);
  std::atomic<size_t> next{0};
  std::vector<Grade> right(rows.size());
  std::vector<Grade> wrong(rows.size());
  const auto work = [&] {
    for (size_t k = next++; k < rows.size(); k = next++) {
      const std::string gold = rows[k].dump();
      right[k] = (*grader)->GradeText(rows[k]["canonical_solution"].get<std::string>(), {gold, {}});
      if (k % 8 == 0) wrong[k] = (*grader)->GradeText("    return 'nothing'\n", {gold, {}});
    }
  };
  std::thread other(work);
  work();
  other.join();
  for (size_t k = 0; k < rows.size(); ++k) {
    EXPECT_EQ(right[k].outcome, Outcome::kCorrect) << rows[k]["task_id"] << " " << right[k].rule;
    if (k % 8 != 0) continue;
    EXPECT_EQ(wrong[k].outcome, Outcome::kWrong) << rows[k]["task_id"] << " " << wrong[k].rule;
  }
}

}  // namespace
}  // namespace conclave::grade
