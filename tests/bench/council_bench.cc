// SPDX-License-Identifier: Apache-2.0
// CPU per model call of the council-20 workload: in memory, and with every call committed to SQLite.
//   council_bench [GSM8K test.jsonl [QUESTIONS [REPEAT]]]
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "common/status.h"
#include "orchestrator/store/memory_store.h"
#include "orchestrator/store/sqlite_store.h"
#include "tests/bench/council_workload.h"

namespace {

using ::conclave::bench::CouncilResult;

int Print(const char* store, const absl::StatusOr<CouncilResult>& result, const CouncilResult& expected) {
  if (!result.ok()) {
    fmt::print(stderr, "council_bench: {}\n", conclave::Message(result.status()));
    return 1;
  }
  const double calls = static_cast<double>(result->calls);
  fmt::print(
      "{{\"store\": \"{}\", \"calls\": {}, \"events\": {}, \"rounds\": {}, \"right\": {}, \"digest\": \"{}\", "
      "\"expected_digest\": \"{}\", \"wall_us_per_call\": {:.1f}, \"cpu_us_per_call\": {:.1f}, \"peak_rss_mb\": "
      "{:.0f}}}\n",
      store, result->calls, result->events, result->rounds, result->right, result->digest, expected.digest,
      result->wall_seconds / calls * 1e6, result->cpu_seconds / calls * 1e6,
      static_cast<double>(result->peak_rss_bytes) / 1e6);
  return result->digest == expected.digest && result->calls == expected.calls ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t count = argc > 2 ? static_cast<size_t>(std::atoi(argv[2])) : 200;
  const int repeat = argc > 3 ? std::atoi(argv[3]) : 1;
  auto questions =
      argc > 1
          ? conclave::bench::ReadCouncilQuestions(argv[1], count)
          : absl::StatusOr<std::vector<conclave::bench::CouncilQuestion>>(conclave::bench::MakeCouncilQuestions(count));
  if (!questions.ok()) {
    fmt::print(stderr, "council_bench: {}\n", conclave::Message(questions.status()));
    return 2;
  }
  const CouncilResult expected = conclave::bench::ExpectedCouncil(*questions);
  int failed = 0;
  for (int i = 0; i < repeat; ++i) {
    const auto memory = conclave::orchestrator::NewMemoryStore();
    failed |= Print("memory", conclave::bench::RunCouncil(*questions, 32, memory.get()), expected);
    std::string folder = (std::filesystem::temp_directory_path() / "council_bench_XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) return 1;
    {
      auto sqlite = conclave::orchestrator::OpenSqliteStore({.path = folder + "/store.sqlite"});
      if (!sqlite.ok()) return 1;
      failed |= Print("sqlite", conclave::bench::RunCouncil(*questions, 32, sqlite->get()), expected);
    }
    std::filesystem::remove_all(folder);
  }
  return failed;
}
