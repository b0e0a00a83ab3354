// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/role/contract.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "orchestrator/experiment/grade/answer_region.h"

namespace conclave::orchestrator {
namespace {

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Lower case, no emphasis marks, white space as single spaces.
std::string Plain(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (char c : text) {
    if (c == '*' || c == '_' || c == '`') continue;
    if (IsSpace(c)) {
      if (!plain.empty() && plain.back() != ' ') plain.push_back(' ');
      continue;
    }
    plain.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  while (!plain.empty() && plain.back() == ' ') plain.pop_back();
  return plain;
}

// Where the last of `phrases` begins, and its length; length 0: nowhere.
std::pair<size_t, size_t> LastOf(std::string_view plain, const std::vector<std::string>& phrases) {
  std::pair<size_t, size_t> last = {0, 0};
  for (const std::string& phrase : phrases) {
    const size_t at = plain.rfind(phrase);
    if (at == std::string_view::npos) continue;
    last = std::max(last, {at, phrase.size()});
  }
  return last;
}

// The number behind the last `after`, e.g. "score: 7.5/10" -> 7.5.
std::optional<double> NumberAfter(std::string_view plain, const std::string& after) {
  const size_t at = plain.rfind(after);
  if (after.empty() || at == std::string_view::npos) return std::nullopt;
  size_t begin = at + after.size();
  while (begin < plain.size() && (plain[begin] == ' ' || plain[begin] == ':' || plain[begin] == '=')) ++begin;
  double value = 0;
  const auto [end, error] =
      std::from_chars(plain.data() + begin, plain.data() + plain.size(), value, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::vector<std::string> PlainPhrases(const google::protobuf::RepeatedPtrField<std::string>& phrases) {
  std::vector<std::string> plain;
  for (const std::string& phrase : phrases) {
    if (std::string p = Plain(phrase); !p.empty()) plain.push_back(std::move(p));
  }
  return plain;
}

}  // namespace

std::string_view WithoutReasoning(std::string_view text) {
  grade::Region region = grade::FinalRegion(text);
  while (region.begin < region.end && IsSpace(text[region.begin])) ++region.begin;
  while (region.end > region.begin && IsSpace(text[region.end - 1])) --region.end;
  return grade::Slice(text, region);
}

VerdictReader::VerdictReader(const deliberation::v1::VerdictContract& contract)
    : accept_(PlainPhrases(contract.accept())),
      reject_(PlainPhrases(contract.reject())),
      score_after_(Plain(contract.score_after())),
      score_max_(contract.has_score_max() ? contract.score_max() : 1.0) {}

Reading VerdictReader::Read(std::string_view text) const {
  const std::string plain = Plain(WithoutReasoning(text));
  const auto accept = LastOf(plain, accept_);
  const auto reject = LastOf(plain, reject_);
  Reading reading;
  if (accept.second == 0 && reject.second == 0) return reading;
  // A phrase that is both would be a mistake of the role; its validation refuses it, and rejecting is the safe reading.
  if (accept.second == 0 || reject.second == 0) {
    reading.accept = accept.second != 0;
  } else {
    reading.accept = accept > reject;
  }
  reading.score = *reading.accept ? 1.0 : 0.0;
  if (const std::optional<double> number = NumberAfter(plain, score_after_)) {
    reading.score = std::clamp(*number / score_max_, 0.0, 1.0);
  }
  return reading;
}

Reading ReadProbability(double p_true) {
  Reading reading;
  if (!(p_true >= 0 && p_true <= 1)) return reading;  // also not-a-number
  reading.score = p_true;
  reading.accept = p_true >= 0.5;
  return reading;
}

std::optional<std::string> ReadAnswerIn(const grade::Grader& grader, std::string_view text) {
  std::optional<grade::Extraction> found = grader.Extract(text, {});
  if (!found.has_value()) return std::nullopt;
  return std::move(found->answer);
}

std::optional<std::string> ReadShortAnswer(const grade::Grader& grader, std::string_view answer) {
  std::optional<grade::Extraction> found = grader.ReadAnswer(answer, {});
  if (!found.has_value()) return std::nullopt;
  return std::move(found->answer);
}

}  // namespace conclave::orchestrator
