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
      score_max_(contract.has_score_max() ? contract.score_max() : 1.0) {
  for (const deliberation::v1::Criterion& criterion : contract.criterion()) {
    criteria_.push_back({Plain(criterion.after()), criterion.has_max() ? criterion.max() : 1.0,
                         criterion.has_weight() ? criterion.weight() : 1.0});
  }
  if (contract.has_accept_from()) accept_from_ = contract.accept_from();
}

Reading VerdictReader::ReadRubric(std::string_view plain) const {
  double points = 0, weights = 0;
  for (const Criterion& criterion : criteria_) {
    const std::optional<double> number = NumberAfter(plain, criterion.after);
    if (!number.has_value()) return {};
    points += criterion.weight * std::clamp(*number / criterion.max, 0.0, 1.0);
    weights += criterion.weight;
  }
  Reading reading;
  reading.score = points / weights;
  reading.accept = *reading.score >= accept_from_;
  return reading;
}

Reading VerdictReader::Read(std::string_view text) const {
  const std::string plain = Plain(WithoutReasoning(text));
  if (!criteria_.empty()) return ReadRubric(plain);
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

std::optional<double> ReadConfidence(const deliberation::v1::AnswerContract& contract, std::string_view text) {
  const std::optional<double> number = NumberAfter(Plain(WithoutReasoning(text)), Plain(contract.confidence_after()));
  const double max = contract.has_confidence_max() ? contract.confidence_max() : 1.0;
  if (!number.has_value() || *number < 0 || *number > max) return std::nullopt;
  return *number / max;
}

std::vector<int32_t> ReadRanking(const deliberation::v1::RankingContract& contract, int32_t count,
                                 std::string_view text) {
  // Lines matter here, so the last line that has the phrase is made plain, and not the whole.
  std::string_view rest = WithoutReasoning(text);
  const std::string after = Plain(contract.after());
  std::vector<int32_t> order;
  while (!rest.empty()) {
    const size_t end = rest.rfind('\n');
    const std::string line = Plain(end == std::string_view::npos ? rest : rest.substr(end + 1));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(0, end);
    const size_t at = line.rfind(after);
    if (at == std::string::npos) continue;
    for (size_t i = at + after.size(); i < line.size();) {
      if (line[i] < '0' || line[i] > '9') {
        ++i;
        continue;
      }
      int32_t number = 0;
      const auto [next, error] = std::from_chars(line.data() + i, line.data() + line.size(), number);
      if (error != std::errc() || number < 1 || number > count) return {};
      i = static_cast<size_t>(next - line.data());
      if (std::find(order.begin(), order.end(), number - 1) == order.end()) order.push_back(number - 1);
    }
    return order;
  }
  return order;
}

std::optional<std::string> ReadLabel(const deliberation::v1::LabelContract& contract, std::string_view text) {
  const std::string plain = Plain(WithoutReasoning(text));
  std::optional<std::string> label;
  std::pair<size_t, size_t> last = {0, 0};
  for (const std::string& option : contract.option()) {
    const auto at = LastOf(plain, {Plain(option)});
    if (at.second == 0 || (label.has_value() && at <= last)) continue;
    last = at;
    label = option;
  }
  return label;
}

namespace {

bool IsIdCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

// "[id: needs a, b] statement" -> what stands in the brackets and behind; nullopt for a line of another form.
std::optional<std::pair<std::string_view, std::string_view>> ItemHead(std::string_view line) {
  line = Trimmed(line);
  const size_t close = line.find(']');
  if (line.empty() || line.front() != '[' || close == std::string_view::npos) return std::nullopt;
  const std::string_view head = Trimmed(line.substr(1, close - 1));
  const std::string_view id = Trimmed(head.substr(0, head.find(':')));
  if (id.empty() || id.size() > 16 || !std::all_of(id.begin(), id.end(), IsIdCharacter)) return std::nullopt;
  return std::pair(head, Trimmed(line.substr(close + 1)));
}

// Fills id and needs; false when a rule is broken.
bool ReadHead(std::string_view head, const std::vector<PlanItem>& before, PlanItem* item) {
  const size_t colon = head.find(':');
  item->id = Trimmed(head.substr(0, colon));
  const auto same = [](std::string_view id) { return [id](const PlanItem& other) { return other.id == id; }; };
  if (std::any_of(before.begin(), before.end(), same(item->id))) return false;
  if (colon == std::string_view::npos) return true;
  constexpr std::string_view kNeeds = "needs";
  std::string_view rest = Trimmed(head.substr(colon + 1));
  if (!rest.starts_with(kNeeds)) return false;
  rest.remove_prefix(kNeeds.size());
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const auto needed = std::find_if(before.begin(), before.end(), same(Trimmed(rest.substr(0, comma))));
    if (needed == before.end()) return false;
    item->needs.push_back(static_cast<int32_t>(needed - before.begin()));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return true;
}

}  // namespace

std::vector<PlanItem> ReadItems(const deliberation::v1::ItemsContract& contract, std::string_view text) {
  std::string_view rest = WithoutReasoning(text);
  std::vector<PlanItem> items;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (const auto found = ItemHead(line)) {
      PlanItem item;
      if (items.size() >= static_cast<size_t>(contract.max()) || !ReadHead(found->first, items, &item)) return {};
      item.text = found->second;
      items.push_back(std::move(item));
    } else if (!items.empty() && !Trimmed(line).empty()) {
      items.back().text += "\n" + std::string(Trimmed(line));
    }
  }
  return items;
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
