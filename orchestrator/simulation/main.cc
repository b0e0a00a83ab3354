// SPDX-License-Identifier: Apache-2.0
// simulate FIRST [COUNT]: worlds by their seeds; says what must not have been. Exit code 1 when there was anything.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <string_view>

#include "orchestrator/simulation/simulation.h"

namespace {

bool ReadNumber(std::string_view text, uint64_t* number) {
  return std::from_chars(text.data(), text.data() + text.size(), *number).ptr == text.data() + text.size();
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t first = 0, count = 1;
  if (argc < 2 || argc > 3 || !ReadNumber(argv[1], &first) || (argc == 3 && !ReadNumber(argv[2], &count))) {
    fmt::print(stderr, "usage: simulate FIRST [COUNT], e.g. simulate 1 5000\n");
    return 2;
  }
  conclave::orchestrator::SimReport sum;
  int bad = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const conclave::orchestrator::SimReport report = conclave::orchestrator::Simulate(seed);
    for (const std::string& violation : report.violations) fmt::print("seed {}: {}\n", seed, violation);
    bad += report.violations.empty() ? 0 : 1;
    sum += report;
    if (count == 1) fmt::print("log {}\n", report.log_hash);
  }
  fmt::print("{} of {} seeds violate: {}\n", bad, count, Describe(sum));
  return bad == 0 ? 0 : 1;
}
