// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/spending.h"

#include <fmt/format.h>

namespace conclave::experiment {

void Spending::Add(const Outcome& run) {
  prompt_tokens_ += run.prompt_tokens;
  output_tokens_ += run.output_tokens;
  calls_ += run.calls;
  flops_ += run.flops;
}

std::string Spending::UsedUp() const {
  const auto check = [](bool limited, double used, double limit, const char* unit) {
    if (!limited || used < limit) return std::string();
    return fmt::format("{}: {:.15g} of {:.15g} are used", unit, used, limit);
  };
  const auto& b = budget_;
  std::string found =
      check(b.has_prompt_tokens(), prompt_tokens_, static_cast<double>(b.prompt_tokens()), "prompt_tokens");
  if (found.empty())
    found = check(b.has_output_tokens(), output_tokens_, static_cast<double>(b.output_tokens()), "output_tokens");
  if (found.empty()) found = check(b.has_calls(), calls_, static_cast<double>(b.calls()), "calls");
  if (found.empty()) found = check(b.has_flops(), flops_, b.flops(), "flops");
  return found;
}

std::string Spending::TimeIsUp(int64_t now_ns) const {
  if (!budget_.has_wall_time()) return "";
  const int64_t limit_ns = budget_.wall_time().seconds() * 1'000'000'000 + budget_.wall_time().nanos();
  if (now_ns - begin_ns_ < limit_ns) return "";
  return fmt::format("wall_time: {:.15g} s are over", 1e-9 * static_cast<double>(limit_ns));
}

}  // namespace conclave::experiment
