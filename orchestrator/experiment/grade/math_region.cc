// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math_region.h"

#include <algorithm>
#include <array>
#include <string>

#include "orchestrator/experiment/grade/math/expression.h"
#include "orchestrator/experiment/grade/number.h"

namespace conclave::grade {
namespace {

constexpr size_t kWindow = 4 * math::kAnswerBytesMax;  // the end of a response that is searched for formulas
constexpr int kTries = 32;                             // delimiters looked at
constexpr size_t kGapMax = 40;                         // bytes between parts of one answer
constexpr int kGapWordsMax = 3;

constexpr auto kNone = std::string_view::npos;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsAlpha(char c) { return IsUpper(c) || IsLower(c); }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Runs of letters that are no LaTeX commands.
int Words(std::string_view text, size_t least_letters) {
  int words = 0;
  for (size_t i = 0; i < text.size();) {
    if (!IsAlpha(text[i])) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < text.size() && IsAlpha(text[end])) ++end;
    const bool command = i > 0 && text[i - 1] == '\\';
    if (!command && end - i >= least_letters) ++words;
    i = end;
  }
  return words;
}

// Where the group that opens before `i` closes; kNone when it does not within an answer's length.
size_t GroupEnd(std::string_view text, size_t i, size_t end) {
  int depth = 1;
  for (end = std::min(end, i + math::kAnswerBytesMax); i < end; ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '{') {
      ++depth;
    } else if (text[i] == '}' && --depth == 0) {
      return i;
    }
  }
  return kNone;
}

struct Box {
  size_t command = 0;  // of \boxed
  Region content;
  bool closed = true;
};

// The last box that begins before `before`.
std::optional<Box> BoxBefore(std::string_view text, Region in, size_t before) {
  const std::string_view view = Slice(text, {in.begin, before});
  for (std::string_view name : {"boxed{", "fbox{"}) {
    const size_t found = view.rfind(name);
    if (found == kNone) continue;
    Box box;
    box.command = in.begin + found;
    box.content.begin = box.command + name.size();
    while (box.command > in.begin && text[box.command - 1] == '\\') --box.command;
    const size_t end = GroupEnd(text, box.content.begin, in.end);
    box.closed = end != kNone;
    box.content.end = box.closed ? end : std::min({text.find('\n', box.content.begin), in.end});
    return box;
  }
  return std::nullopt;
}

bool Joins(std::string_view gap, bool needs_word) {
  if (gap.size() > kGapMax || Words(gap, 1) > kGapWordsMax) return false;
  for (std::string_view stop : {". ", "? ", ": ", "\n\n"}) {
    if (gap.find(stop) != kNone) return false;
  }
  if (!needs_word) return true;
  for (std::string_view word : {"and", "or", ",", ";"}) {
    if (gap.find(word) != kNone) return true;
  }
  return false;
}

struct Formula {
  Region outer;  // with its delimiters
  Region inner;
};

bool Escaped(std::string_view text, size_t i) {
  size_t slashes = 0;
  while (slashes < i && text[i - 1 - slashes] == '\\') ++slashes;
  return slashes % 2 == 1;
}

// The formula that ends with the dollar at `close`.
std::optional<Formula> DollarFormula(std::string_view text, Region in, size_t close) {
  const bool display = close > in.begin && text[close - 1] == '$' && !Escaped(text, close - 1);
  const size_t inner_end = display ? close - 1 : close;
  for (size_t open = inner_end; open-- > in.begin;) {
    if (!display && text[open] == '\n') return std::nullopt;
    if (text[open] != '$' || Escaped(text, open)) continue;
    if (display && (open == in.begin || text[open - 1] != '$')) return std::nullopt;
    if (!display && close + 1 < in.end && IsDigit(text[close + 1])) return std::nullopt;  // a price: $5 and $7
    Formula formula{{display ? open - 1 : open, close + 1}, {open + 1, inner_end}};
    if (formula.inner.begin == formula.inner.end) return std::nullopt;
    return formula;
  }
  return std::nullopt;
}

std::optional<Formula> FormulaBefore(std::string_view text, Region in, size_t before) {
  for (int tries = 0; tries < kTries && before > in.begin; ++tries) {
    const std::string_view view = Slice(text, {in.begin, before});
    size_t close = view.rfind('$');
    std::string_view open = "$";
    for (const auto& [end_mark, begin_mark] :
         std::array<std::pair<std::string_view, std::string_view>, 2>{{{"\\)", "\\("}, {"\\]", "\\["}}}) {
      const size_t found = view.rfind(end_mark);
      if (found == kNone || (close != kNone && found < close)) continue;
      close = found;
      open = begin_mark;
    }
    if (close == kNone) return std::nullopt;
    before = in.begin + close;
    if (open == "$") {
      if (Escaped(text, before)) continue;
      if (const auto formula = DollarFormula(text, in, before)) return formula;
      continue;
    }
    const size_t begin = view.substr(0, close).rfind(open);
    if (begin == kNone) continue;
    const Region inner{in.begin + begin + 2, before};
    if (open == "\\(" && Slice(text, inner).find('\n') != kNone) continue;
    return Formula{{inner.begin - 2, inner.end + 2}, inner};
  }
  return std::nullopt;
}

Region Tail(Region in) { return {in.end - std::min(in.end - in.begin, kWindow), in.end}; }

bool Denied(std::string_view before) {
  while (!before.empty() && (before.back() == ' ' || before.back() == '(')) before.remove_suffix(1);
  for (std::string_view no : {"not", "n't", "non", "nor", "isn", "不是", "nicht", "no"}) {
    if (before.ends_with(no)) return true;
  }
  return false;
}

// A capital that stands alone at i; I and A that go on as a word are words.
bool IsLabel(std::string_view text, Region in, size_t i) {
  if (!IsUpper(text[i])) return false;
  const auto wordy = [](char c) { return IsAlpha(c) || IsDigit(c) || c == '\'' || c == '\\' || c == '_'; };
  if (i > in.begin && wordy(text[i - 1])) return false;
  if (i + 1 < in.end && wordy(text[i + 1])) return false;
  const bool word_follows = i + 2 < in.end && text[i + 1] == ' ' && IsLower(text[i + 2]);
  return (text[i] != 'I' && text[i] != 'A') || !word_follows;
}

}  // namespace

std::optional<Boxes> LastBoxes(std::string_view text, Region in) {
  size_t before = in.end;
  for (int tries = 0; tries < kTries; ++tries) {
    const std::optional<Box> last = BoxBefore(text, in, before);
    if (!last) return std::nullopt;
    before = last->command;
    const Region content = Trim(text, last->content);
    if (content.begin >= content.end) continue;
    Boxes boxes{last->content, last->closed};
    size_t first = last->command;
    for (int more = 0; more < kTries; ++more) {
      const std::optional<Box> earlier = BoxBefore(text, in, first);
      if (!earlier || !earlier->closed || earlier->content.end + 1 > first) break;
      if (!Joins(Slice(text, {earlier->content.end + 1, first}), false)) break;
      first = earlier->command;
      boxes = {{first, last->closed ? last->content.end + 1 : last->content.end}, false};
    }
    return boxes;
  }
  return std::nullopt;
}

std::optional<Region> LastFormulas(std::string_view text, Region in) {
  in = Tail(in);
  const std::optional<Formula> last = FormulaBefore(text, in, in.end);
  if (!last) return std::nullopt;
  Region found = last->inner;
  size_t first = last->outer.begin;
  for (int more = 0; more < kTries; ++more) {
    const std::optional<Formula> earlier = FormulaBefore(text, in, first);
    if (!earlier || !Joins(Slice(text, {earlier->outer.end, first}), true)) break;
    first = earlier->outer.begin;
    found.begin = earlier->inner.begin;
  }
  return found;
}

bool EndsInBrokenFormula(std::string_view text, Region in) {
  while (in.end > in.begin && IsSpace(text[in.end - 1])) --in.end;
  const std::string_view view = Slice(text, in);
  const bool dollar = view.ends_with("$") && !view.ends_with("$$") && !view.ends_with("\\$");
  const size_t mark = dollar ? 1 : view.ends_with("\\)") ? 2 : 0;
  if (mark == 0) return false;
  const std::string_view before = view.substr(0, view.size() - mark);
  const size_t line = before.rfind('\n');
  return line != kNone && before.find_first_not_of(" \t", line + 1) == kNone;
}

std::optional<Region> LastNumber(std::string_view text, Region in) {
  for (size_t window = 256;; window *= 8) {
    size_t from = in.end - std::min(in.end - in.begin, window);
    while (from > in.begin && !IsSpace(text[from])) --from;
    std::optional<Region> last;
    const std::string_view view = text.substr(0, in.end);
    for (size_t at = from; const std::optional<NumberToken> token = NextNumber(view, at);) {
      at = token->end;
      last = Region{token->begin, token->end};
    }
    if (last || from == in.begin) return last;
  }
}

std::optional<Region> LeadingNumber(std::string_view text, Region in) {
  const std::string_view view = text.substr(0, std::min(in.end, in.begin + 2 * kNumberDigitsMax));
  const std::optional<NumberToken> token = NextNumber(view, in.begin);
  if (!token || token->begin != in.begin) return std::nullopt;
  return Region{token->begin, token->end};
}

std::optional<Region> LastLabel(std::string_view text, Region in) {
  in = Tail(in);
  for (size_t i = in.end; i-- > in.begin;) {
    if (IsLabel(text, in, i) && !Denied(Slice(text, {in.begin, i}))) return Region{i, i + 1};
  }
  return std::nullopt;
}

std::optional<Region> LeadingLabel(std::string_view text, Region in) {
  if (in.begin >= in.end || !IsLabel(text, in, in.begin)) return std::nullopt;
  return Region{in.begin, in.begin + 1};
}

bool IsProse(std::string_view text) { return Words(text, 2) >= 3; }

}  // namespace conclave::grade
