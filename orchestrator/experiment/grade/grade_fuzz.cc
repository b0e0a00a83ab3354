// SPDX-License-Identifier: Apache-2.0
// Any text: no crash, spans inside the text, and what is extracted reads back as the same answer.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "orchestrator/experiment/grade/graders.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using conclave::grade::Extraction;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const std::vector<std::string> choices = {"Paris", "Rome", "42"};
  static const auto gsm8k = conclave::grade::MakeGsm8kGrader();
  static const auto exact = conclave::grade::MakeExactGrader();
  static const auto choice = conclave::grade::MakeChoiceGrader();
  static const auto bbh = conclave::grade::MakeBbhGrader();
  static const auto game24 = conclave::grade::MakeGame24Grader();
  static const auto knights = conclave::grade::MakeKnightsKnavesGrader();
  static const auto math = conclave::grade::MakeMathGrader();
  for (const conclave::grade::Grader* grader :
       {gsm8k.get(), exact.get(), choice.get(), bbh.get(), game24.get(), knights.get(), math.get()}) {
    const conclave::grade::Reference reference = {.gold = "42", .choices = choices};
    if (const auto found = grader->Extract(text, reference)) {
      CONCLAVE_CHECK(found->begin <= found->end && found->end <= text.size());
      CONCLAVE_CHECK(text.substr(found->begin, found->end - found->begin) == found->raw);
      CONCLAVE_CHECK(!found->answer.empty());
    }
    (void)grader->GradeText(text, reference);
    (void)grader->GradeAnswer(text, reference);
    (void)grader->GradeText("42", {.gold = text, .choices = {}});
  }
  return 0;
}
