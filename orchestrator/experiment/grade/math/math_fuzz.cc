// SPDX-License-Identifier: Apache-2.0
// Any two texts, parted by a line break: bounded work, no crash, and every answer says what it says itself.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/check.h"
#include "orchestrator/experiment/grade/math/equivalence.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace math = conclave::grade::math;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t line = text.find('\n');
  const std::string_view answer = text.substr(0, line);
  const std::string_view gold = line == std::string_view::npos ? answer : text.substr(line + 1);
  (void)math::Equivalent(answer, gold);
  const std::string form = math::NormalForm(answer);
  CONCLAVE_CHECK(form == math::NormalForm(answer));
  if (!math::LiteralForm(answer).empty()) CONCLAVE_CHECK(math::Equivalent(answer, answer));
  return 0;
}
