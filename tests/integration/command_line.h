// SPDX-License-Identifier: Apache-2.0
// The built programs, run as a person or a script would.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "tests/testing/child_process.h"

namespace conclave {

using Words = std::vector<std::string>;

inline std::string Program(const std::string& name) { return fmt::format("{}/bin/{}", CONCLAVE_BINARY_DIR, name); }

struct Ended {
  int code = -1;
  std::string out;
  Words errors;  // lines of stderr, but for notes of what was started
};

inline Ended RunProgram(const std::string& program, const Words& arguments) {
  Words words = {Program(program)};
  words.insert(words.end(), arguments.begin(), arguments.end());
  testing::ChildProcess process(words);
  Ended ended;
  while (const auto line = process.ReadLine()) ended.out += *line + "\n";
  while (const auto line = process.ReadErrorLine()) {
    if (!line->starts_with("started ") && !line->starts_with("asking ") && !line->starts_with("[")) {
      ended.errors.push_back(*line);
    }
  }
  ended.code = process.Wait();
  return ended;
}

}  // namespace conclave
