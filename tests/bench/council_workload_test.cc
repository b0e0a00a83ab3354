// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/council_workload.h"

#include "orchestrator/store/memory_store.h"
#include "orchestrator/store/sqlite_store.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::bench {
namespace {

using ::conclave::testing::IsOk;

TEST(CouncilWorkload, GraphAndExecutorDoWhatThePlainLoopDoes) {
  const auto questions = MakeCouncilQuestions(20);
  const CouncilResult expected = ExpectedCouncil(questions);
  const auto memory = orchestrator::NewMemoryStore();
  const auto in_memory = RunCouncil(questions, 8, memory.get());
  ASSERT_OK(in_memory);
  EXPECT_EQ(in_memory->digest, expected.digest);
  EXPECT_EQ(in_memory->calls, expected.calls);
  conclave::testing::TempDir dir;
  const auto sqlite = orchestrator::OpenSqliteStore({.path = dir.Path("s.sqlite")});
  ASSERT_OK(sqlite);
  const auto stored = RunCouncil(questions, 8, sqlite->get());
  ASSERT_OK(stored);
  EXPECT_EQ(stored->digest, expected.digest);
}

// The figures of shared/workloads/README.md.
TEST(CouncilWorkload, TwoHundredQuestionsOfGsm8kComeOutAsForEveryOtherFramework) {
  SKIP_WITHOUT_SHARED(path, "data/benchmarks/gsm8k/test.jsonl");
  const auto questions = ReadCouncilQuestions(path, 200);
  ASSERT_OK(questions);
  const auto memory = orchestrator::NewMemoryStore();
  const auto result = RunCouncil(*questions, 32, memory.get());
  ASSERT_OK(result);
  EXPECT_EQ(result->calls, 6312);
  EXPECT_EQ(result->rounds, 263);
  EXPECT_EQ(result->right, 184);
  EXPECT_EQ(result->digest, "296fbd69d3fe");
}

}  // namespace
}  // namespace conclave::bench
