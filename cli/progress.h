// SPDX-License-Identifier: Apache-2.0
// An experiment's progress on the terminal: bar with time left, live accuracy per arm, tokens per second.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "common/clock.h"
#include "orchestrator/experiment/runner.h"

namespace conclave::cli {

// Called by one thread at a time.
class ProgressView {
 public:
  // `live`: redrawn in place; else one line now and then.
  ProgressView(std::FILE* out, bool live, std::vector<std::string> arms, const Clock& clock);
  void Show(const experiment::Progress& progress);
  void Finish();

 private:
  std::string Line(const experiment::Progress& progress, double seconds) const;

  std::FILE* const out_;
  const bool live_;
  const std::vector<std::string> arms_;
  const Clock& clock_;
  const int64_t begin_ns_;
  int64_t shown_ns_ = 0;
  size_t first_done_ = 0;  // already there when the clock began
  bool began_ = false;
  int lines_ = 0;
};

}  // namespace conclave::cli
