// SPDX-License-Identifier: Apache-2.0
// Knights and Knaves (Xie et al. 2024, arXiv 2410.23123): who is what, for every inhabitant. The response ends in a
// CONCLUSION with one line a head; without one, what was said last of each counts.
#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "orchestrator/experiment/grade/answer_region.h"
#include "orchestrator/experiment/grade/graders.h"

namespace conclave::grade {
namespace {

constexpr size_t kInhabitantsMax = 64;
constexpr std::array<std::string_view, 8> kNoNames = {"He", "If", "It", "She", "That", "There", "This", "Who"};

bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }

size_t Skip(std::string_view text, size_t i, std::string_view what) {
  while (i < text.size() && what.find(text[i]) != std::string_view::npos) ++i;
  return i;
}

// The kind behind "Zoey" at i: " is a knight", ": **knave**", " = knight". Nullopt where none is named.
std::optional<bool> KnightAt(std::string_view text, size_t i) {
  i = Skip(text, i, " *_\t");
  bool linked = false;
  for (std::string_view link : {"is", ":", "=", "->"}) {
    if (!text.substr(i).starts_with(link)) continue;
    i += link.size();
    linked = true;
    break;
  }
  if (!linked) return std::nullopt;
  i = Skip(text, i, " *_\t");
  for (std::string_view article : {"a ", "the "}) {
    if (text.substr(i).starts_with(article)) i += article.size();
  }
  i = Skip(text, i, " *_\t");
  for (std::string_view word : {"knight", "Knight", "knave", "Knave"}) {
    const size_t end = i + word.size();
    if (text.substr(i).starts_with(word) && (end >= text.size() || !IsAlpha(text[end]))) return word.ends_with("night");
  }
  return std::nullopt;
}

using Kinds = std::map<std::string, bool, std::less<>>;

// Everybody of whom a kind is said, as it was said last.
Kinds KindsIn(std::string_view text) {
  Kinds kinds;
  for (size_t i = 0; i < text.size();) {
    if (!IsUpper(text[i]) || (i > 0 && IsAlpha(text[i - 1]))) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < text.size() && IsAlpha(text[end])) ++end;
    const std::string name(text.substr(i, end - i));
    i = end;
    const std::optional<bool> knight = KnightAt(text, end);
    if (!knight || std::find(kNoNames.begin(), kNoNames.end(), name) != kNoNames.end()) continue;
    if (kinds.size() < kInhabitantsMax || kinds.contains(name)) kinds[name] = *knight;
  }
  return kinds;
}

std::string Written(const Kinds& kinds) {
  std::string out;
  for (const auto& [name, knight] : kinds) {
    out += (out.empty() ? "" : ", ") + name + (knight ? " knight" : " knave");
  }
  return out;
}

class KnightsKnavesGrader final : public Grader {
 public:
  std::string_view name() const override { return "knights_knaves"; }

  std::optional<Extraction> Extract(std::string_view text, const Reference& reference) const override {
    const Region region = FinalRegion(text);
    if (const auto field = AnswerField(text, region)) {
      return Read(text, *field, reference, "knights_knaves/answer_field", true);
    }
    if (OpensAsObject(text, region)) return std::nullopt;  // its field is missing
    const std::string_view view = text.substr(0, region.end);
    size_t at = std::string_view::npos;
    for (std::string_view mark : {"CONCLUSION", "Conclusion"}) {
      const size_t found = view.rfind(mark);
      if (found == std::string_view::npos || found < region.begin) continue;
      if (at == std::string_view::npos || found > at) at = found;
    }
    if (at != std::string_view::npos) {
      if (auto found = Read(text, {at, region.end}, reference, "knights_knaves/conclusion", true)) return found;
    }
    return Read(text, region, reference, "knights_knaves/last_said", false);
  }

  std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& reference) const override {
    return Read(answer, {0, answer.size()}, reference, "knights_knaves/answer", true);
  }

  std::optional<std::string> NormalGold(const Reference& reference) const override {
    const Kinds kinds = KindsIn(reference.gold);
    if (kinds.empty()) return std::nullopt;
    return Written(kinds);
  }

 private:
  // Where the item names its inhabitants (as choices), nobody else counts.
  static std::optional<Extraction> Read(std::string_view text, Region region, const Reference& reference,
                                        std::string_view rule, bool strict) {
    Kinds kinds = KindsIn(Slice(text, region));
    if (!reference.choices.empty()) {
      std::erase_if(kinds, [&](const auto& kind) {
        return std::find(reference.choices.begin(), reference.choices.end(), kind.first) == reference.choices.end();
      });
    }
    if (kinds.empty()) return std::nullopt;
    Extraction found;
    found.raw = std::string(Slice(text, region));
    found.answer = Written(kinds);
    found.rule = rule;
    found.begin = region.begin;
    found.end = region.end;
    found.strict = strict;
    return found;
  }
};

}  // namespace

std::unique_ptr<const Grader> MakeKnightsKnavesGrader() { return std::make_unique<KnightsKnavesGrader>(); }

}  // namespace conclave::grade
