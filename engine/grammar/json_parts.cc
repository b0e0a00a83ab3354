// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/json_parts.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "engine/tokenizer/utf8.h"

namespace conclave::engine::grammar {
namespace {

// Characters that a backslash and a letter stand for.
struct Escape {
  char32_t character;
  char letter;
};
constexpr Escape kEscapes[] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                               {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};

// What a string holds as it is.
const CodePointSet& Plain() {
  static const auto* plain =
      new CodePointSet(CodePointSet{{' ', kCodePointMax}}.Minus(CodePointSet{{'"', '"'}, {'\\', '\\'}}));
  return *plain;
}

}  // namespace

Part JsonParts::Sequence(std::span<const Part> parts) {
  Part all = parts[0];
  for (const Part& part : parts.subspan(1)) all = b_->Then(all, part);
  return all;
}

Part JsonParts::Words(std::span<const std::string_view> words) {
  std::vector<Part> parts;
  for (const std::string_view word : words) parts.push_back(b_->Bytes(word));
  return b_->Either(parts);
}

Part JsonParts::Space() {
  const Part none = b_->Empty(), space = b_->Bytes(" ");
  const Part newline = b_->Bytes("\n");
  const Part indent = b_->Repeat(b_->Characters({{'\t', '\t'}, {' ', ' '}}), 0, kIndentMax);
  return b_->Either(std::vector<Part>{none, space, b_->Then(newline, indent)});
}

Part JsonParts::Character(const CodePointSet& set) {
  std::vector<Part> parts = {b_->Characters(set.And(Plain()))};
  CodePointSet rest = set.Minus(Plain()), letters;
  for (const Escape& escape : kEscapes) {
    if (!rest.Contains(escape.character)) continue;
    letters.Add(static_cast<uint8_t>(escape.letter), static_cast<uint8_t>(escape.letter));
    rest = rest.Minus({{escape.character, escape.character}});
  }
  if (!letters.empty()) {
    const Part backslash = b_->Bytes("\\");
    parts.push_back(b_->Then(backslash, b_->Characters(letters)));
  }
  for (const char32_t high : {0, 1}) {  // the other control characters
    CodePointSet digits;
    for (char32_t low = 0; low < 16; ++low) {
      const auto digit = static_cast<uint8_t>("0123456789abcdef"[low]);
      if (rest.Contains(16 * high + low)) digits.Add(digit, digit);
    }
    if (digits.empty()) continue;
    const Part begin = b_->Bytes(high == 0 ? "\\u000" : "\\u001");
    parts.push_back(b_->Then(begin, b_->Characters(digits)));
  }
  return b_->Either(parts);
}

Part JsonParts::Quoted(const Part& characters) {
  // Made after the characters: parts are put together in the order of their making, so both quotes stand behind them.
  const Part open = b_->Bytes("\""), close = b_->Bytes("\"");
  b_->AddStep(open.end, characters.start);
  b_->AddStep(characters.end, close.start);
  return b_->Between(open.start, close.end, characters.first_node);
}

Part JsonParts::String(int32_t min, int32_t max) {
  if (max >= 0 || min > 0) {
    const Part counted = b_->Repeat(Character(CodePointSet::All()), min, max);
    return Quoted(counted);
  }
  const Part plain = b_->Characters(Plain());
  const auto hex = [this] { return b_->Characters({{'0', '9'}, {'A', 'F'}, {'a', 'f'}}); };
  const auto digits = [](std::string_view set) {
    CodePointSet result;
    for (const char c : set) result.Add(static_cast<uint8_t>(c), static_cast<uint8_t>(c));
    return result;
  };
  const Part simple = Sequence(std::vector<Part>{b_->Bytes("\\"), b_->Characters(digits("\"\\/bfnrt"))});
  // \uXXXX of what is no surrogate, and pairs of surrogates.
  const Part low = Sequence(
      std::vector<Part>{b_->Bytes("\\u"), b_->Characters(digits("0123456789ABCEFabcef")), hex(), hex(), hex()});
  const Part below = Sequence(std::vector<Part>{b_->Bytes("\\u"), b_->Characters(digits("Dd")),
                                                b_->Characters(digits("01234567")), hex(), hex()});
  const Part pair = Sequence(std::vector<Part>{
      b_->Bytes("\\u"), b_->Characters(digits("Dd")), b_->Characters(digits("89ABab")), hex(), hex(), b_->Bytes("\\u"),
      b_->Characters(digits("Dd")), b_->Characters(digits("CDEFcdef")), hex(), hex()});
  return Quoted(b_->Repeat(b_->Either(std::vector<Part>{plain, simple, low, below, pair}), 0, -1));
}

Part JsonParts::Key(std::string_view name) {
  Part text = b_->Empty();
  for (std::string_view rest = name; !rest.empty();) {
    const Utf8Char c = DecodeUtf8(rest);
    text = b_->Then(text, Character({{c.code_point, c.code_point}}));
    rest.remove_prefix(c.bytes);
  }
  const Part quoted = Quoted(text);
  const Part colon = b_->Then(quoted, b_->Bytes(":"));
  return b_->Then(colon, Space());
}

Part JsonParts::Constant(std::string_view json) {
  Part text = b_->Empty();
  bool in_string = false;
  char last = '\0';
  for (size_t i = 0; i < json.size() && !b_->full(); ++i) {
    const char c = json[i];
    const bool closes = !in_string && (c == '}' || c == ']');
    if (closes && last != '{' && last != '[') text = b_->Then(text, Space());
    const bool escape = in_string && c == '\\';
    text = b_->Then(text, b_->Bytes(json.substr(i, escape ? 2 : 1)));
    i += escape ? 1 : 0;
    if (c == '"') in_string = !in_string;
    if (!in_string && (c == '{' || c == '[' || c == ',' || c == ':')) text = b_->Then(text, Space());
    last = c;
  }
  return text;
}

// Plain characters only, so that no name comes in disguise: a walk along the names that are excepted, which leaves it
// at the first character that none of them has there, or ends it within one.
Part JsonParts::AnyKey(std::span<const std::string_view> except) {
  if (except.empty()) {
    const Part string = b_->Call(StringRule()), colon = b_->Then(string, b_->Bytes(":"));
    return b_->Then(colon, Space());
  }
  const int32_t first = b_->next_node();
  const int32_t free = b_->AddNode(), end = b_->AddNode();
  const auto link = [this](int32_t from, const Part& part, int32_t to) {
    b_->AddStep(from, part.start);
    b_->AddStep(part.end, to);
  };
  link(free, b_->Characters(Plain()), free);
  link(free, b_->Bytes("\""), end);
  struct Place {
    int32_t node;
    std::vector<std::string_view> rests;  // of the names that come by here
  };
  const int32_t start = b_->AddNode();
  std::vector<Place> pending = {{start, {except.begin(), except.end()}}};
  while (!pending.empty() && !b_->full()) {
    const Place place = std::move(pending.back());
    pending.pop_back();
    CodePointSet taken;
    std::map<char32_t, std::vector<std::string_view>> next;
    bool name_ends = false;
    for (const std::string_view rest : place.rests) {
      if (rest.empty()) {
        name_ends = true;
        continue;
      }
      const Utf8Char c = DecodeUtf8(rest);
      next[c.code_point].push_back(rest.substr(c.bytes));
      taken.Add(c.code_point, c.code_point);
    }
    link(place.node, b_->Characters(Plain().Minus(taken)), free);
    if (!name_ends) link(place.node, b_->Bytes("\""), end);
    for (auto& [character, rests] : next) {
      if (!Plain().Contains(character)) continue;
      const int32_t node = b_->AddNode();
      link(place.node, b_->Characters({{character, character}}), node);
      pending.push_back({node, std::move(rests)});
    }
  }
  const Part open = b_->Bytes("\"");
  b_->AddStep(open.end, start);
  const Part key = b_->Then(b_->Between(open.start, end, first), b_->Bytes(":"));
  return b_->Then(key, Space());
}

// ---- Numbers

Part JsonParts::Whole() {
  const Part zero = b_->Bytes("0");
  const Part first = b_->Characters({{'1', '9'}});
  return b_->Either(std::vector<Part>{zero, b_->Then(first, Digits(0, kDigitsMax - 1))});
}

Part JsonParts::Fraction() {
  const Part point = b_->Bytes(".");
  return b_->Then(point, Digits(1, kDigitsMax));
}

// As Utf8Sequences, in decimal: blocks of 10^i whose digits behind the first that varies are free.
Part JsonParts::InRange(int64_t low, int64_t high) {
  std::vector<Part> parts;
  std::vector<std::pair<int64_t, int64_t>> pending = {{low, high}};
  while (!pending.empty()) {
    const auto [first, last] = pending.back();
    pending.pop_back();
    const std::string from = std::to_string(first), to = std::to_string(last);
    int64_t cut = -1, power = 1;
    if (from.size() != to.size()) {
      for (size_t i = 0; i < from.size(); ++i) power *= 10;
      cut = power - 1;
    }
    power = 1;
    for (size_t i = 1; i < from.size() && cut < 0; ++i) {
      power *= 10;
      if (first / power == last / power) break;
      if (first % power != 0) {
        cut = (first / power + 1) * power - 1;
      } else if (last % power != power - 1) {
        cut = last / power * power - 1;
      }
    }
    if (cut >= 0) {
      pending.emplace_back(cut + 1, last);
      pending.emplace_back(first, cut);
      continue;
    }
    Part digits = b_->Empty();
    for (size_t i = 0; i < from.size(); ++i) {
      digits = b_->Then(digits, b_->Characters({{static_cast<uint8_t>(from[i]), static_cast<uint8_t>(to[i])}}));
    }
    parts.push_back(digits);
  }
  return b_->Either(parts);
}

// Between the bounds, those included. With `fraction` digits behind a point may follow all but the bound farthest from
// zero, which zeros may.
Part JsonParts::Signed(const IntegerRange& range, bool fraction) {
  std::vector<Part> parts;
  const auto magnitudes = [&](int64_t low, int64_t high, bool closed) {
    if (!fraction) return InRange(low, high);
    std::vector<Part> ways;
    if (!closed || low < high) {
      const Part whole = InRange(low, closed ? high - 1 : high);
      ways.push_back(b_->Then(whole, b_->Repeat(Fraction(), 0, 1)));
    }
    if (closed) {
      const Part bound = InRange(high, high);
      const Part point = b_->Bytes(".");
      const Part zeros = b_->Then(point, b_->Repeat(b_->Bytes("0"), 1, kDigitsMax));
      ways.push_back(b_->Then(bound, b_->Repeat(zeros, 0, 1)));
    }
    return b_->Either(ways);
  };
  int64_t largest = 1;
  for (int32_t i = 0; i < kDigitsMax; ++i) largest *= 10;
  const int64_t min = range.min.value_or(-largest + 1), max = range.max.value_or(largest - 1);
  if (min <= max && max >= 0) parts.push_back(magnitudes(std::max<int64_t>(min, 0), max, range.max.has_value()));
  if (min <= max && min < 0) {
    const Part sign = b_->Bytes("-");
    // Of -1..0 a fraction may be -0.5.
    const int64_t low = max >= 0 ? (fraction ? 0 : 1) : -max;
    parts.push_back(b_->Then(sign, magnitudes(low, -min, range.min.has_value())));
  }
  return parts.empty() ? b_->Characters({}) : b_->Either(parts);
}

Part JsonParts::Integer(const IntegerRange& range) { return Signed(range, false); }

Part JsonParts::Number(const IntegerRange& range) {
  if (range.min.has_value() || range.max.has_value()) return Signed(range, true);
  const Part sign = b_->Repeat(b_->Bytes("-"), 0, 1);
  const Part whole = b_->Then(sign, Whole());
  const Part fraction = b_->Then(whole, b_->Repeat(Fraction(), 0, 1));
  const Part letter = b_->Characters({{'E', 'E'}, {'e', 'e'}});
  const Part letter_and_sign = b_->Then(letter, b_->Repeat(b_->Characters({{'+', '+'}, {'-', '-'}}), 0, 1));
  const Part exponent = b_->Then(letter_and_sign, Digits(1, 2));
  return b_->Then(fraction, b_->Repeat(exponent, 0, 1));
}

// ---- Any value

int32_t JsonParts::StringRule() {
  if (string_ >= 0) return string_;
  string_ = b_->AddRule("a string");
  b_->Define(string_, String(0, -1));
  return string_;
}

Part JsonParts::AnyArray() {
  const int32_t first = b_->next_node();
  const Part open = b_->Bytes("["), open_space = b_->Then(open, Space());
  const Part item = b_->Call(any_value_);
  const Part comma = b_->Bytes(","), space = b_->Then(comma, Space());
  const Part more = b_->Then(space, b_->Call(any_value_));
  const Part rest = b_->Repeat(more, 0, -1);
  const Part before = Space(), close = b_->Then(before, b_->Bytes("]"));
  b_->AddStep(open_space.end, item.start);
  b_->AddStep(open_space.end, close.start);
  b_->AddStep(item.end, rest.start);
  b_->AddStep(rest.end, close.start);
  return b_->Between(open_space.start, close.end, first);
}

Part JsonParts::AnyObject() {
  const int32_t first = b_->next_node();
  const Part open = b_->Bytes("{"), open_space = b_->Then(open, Space());
  const auto member = [this] {
    const Part key = AnyKey({});
    return b_->Then(key, b_->Call(any_value_));
  };
  const Part one = member();
  const Part comma = b_->Bytes(","), space = b_->Then(comma, Space());
  const Part rest = b_->Repeat(b_->Then(space, member()), 0, -1);
  const Part before = Space(), close = b_->Then(before, b_->Bytes("}"));
  b_->AddStep(open_space.end, one.start);
  b_->AddStep(open_space.end, close.start);
  b_->AddStep(one.end, rest.start);
  b_->AddStep(rest.end, close.start);
  return b_->Between(open_space.start, close.end, first);
}

int32_t JsonParts::AnyValueRule() {
  if (any_value_ >= 0) return any_value_;
  const int32_t string = StringRule();
  any_value_ = b_->AddRule("any value");
  const std::string_view words[] = {"true", "false", "null"};
  const Part parts[] = {Words(words), Number({}), b_->Call(string), AnyArray(), AnyObject()};
  b_->Define(any_value_, b_->Either(parts));
  return any_value_;
}

}  // namespace conclave::engine::grammar
