// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/answer_region.h"

#include <algorithm>
#include <cstring>

namespace conclave::grade {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

size_t SkipSpace(std::string_view text, size_t i, size_t end) {
  while (i < end && IsSpace(text[i])) ++i;
  return i;
}

// As text.rfind(needle), by looks for its first character; the library's compares at every position.
size_t RFind(std::string_view text, std::string_view needle) {
  size_t length = text.size();
  while (length >= needle.size()) {
    const void* found = memrchr(text.data(), needle[0], length - needle.size() + 1);
    if (found == nullptr) return std::string_view::npos;
    const size_t at = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    if (text.substr(at, needle.size()) == needle) return at;
    length = at + needle.size() - 1;
  }
  return std::string_view::npos;
}

// As rfind, without regard to ASCII case. `lower` is in lower case. Searches for a match that begins before `before`.
size_t RFindCaseless(std::string_view text, std::string_view lower, Region in, size_t before) {
  if (in.end - in.begin < lower.size()) return std::string_view::npos;
  for (size_t i = std::min(before, in.end - lower.size() + 1); i-- > in.begin;) {
    if (Lower(text[i]) != lower[0]) continue;
    size_t n = 1;
    while (n < lower.size() && Lower(text[i + n]) == lower[n]) ++n;
    if (n == lower.size()) return i;
  }
  return std::string_view::npos;
}

size_t LineEnd(std::string_view text, size_t i, size_t end) { return std::min(text.find('\n', i), end); }

// A full stop that ends a sentence: white space or the end behind it ("3.5" and "a.m" have none).
size_t SentenceEnd(std::string_view text, size_t i, size_t end) {
  const size_t line = LineEnd(text, i, end);
  for (; i < line; ++i) {
    if (text[i] == '.' && (i + 1 == line || IsSpace(text[i + 1]))) return i;
  }
  return line;
}

// The end of a JSON-like string whose opening quote is at i - 1, or nullopt when it is cut off.
std::optional<size_t> StringEnd(std::string_view text, size_t i, size_t end) {
  for (; i < end; ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      return i;
    }
  }
  return std::nullopt;
}

}  // namespace

Region Trim(std::string_view text, Region r) {
  const auto edge = [&](char c) { return IsSpace(c) || std::string_view("\"'`*_").find(c) != std::string_view::npos; };
  bool changed = true;
  while (changed && r.begin < r.end) {
    changed = false;
    while (r.begin < r.end && edge(text[r.begin])) ++r.begin, changed = true;
    while (r.begin < r.end && (edge(text[r.end - 1]) || text[r.end - 1] == '.')) --r.end, changed = true;
    const std::string_view rest = Slice(text, r);
    // $...$ and \(...\) around the whole; a lone leading $ is a currency mark.
    if (rest.size() >= 2 && rest.front() == '$' && rest.back() == '$') {
      ++r.begin, --r.end, changed = true;
    } else if (rest.size() >= 4 && (rest.starts_with("\\(") || rest.starts_with("\\[")) &&
               (rest.ends_with("\\)") || rest.ends_with("\\]"))) {
      r.begin += 2, r.end -= 2, changed = true;
    }
  }
  return r;
}

Region FinalRegion(std::string_view text) {
  constexpr std::string_view kClose = "</think>";
  const size_t close = RFind(text, kClose);
  if (close != std::string_view::npos) return {close + kClose.size(), text.size()};
  const size_t start = SkipSpace(text, 0, text.size());
  if (text.substr(start).starts_with("<think>")) return {text.size(), text.size()};
  return {0, text.size()};
}

std::optional<Region> AfterHashes(std::string_view text, Region in) {
  const size_t at = RFind(Slice(text, in), "####");
  if (at == std::string_view::npos) return std::nullopt;
  const size_t begin = in.begin + at + 4;
  return Region{begin, LineEnd(text, begin, in.end)};
}

std::optional<Region> AnswerField(std::string_view text, Region in) {
  constexpr std::string_view kKey = "\"answer\"";
  for (size_t before = in.end;;) {
    const size_t key = RFindCaseless(text, kKey, in, before);
    if (key == std::string_view::npos) return std::nullopt;
    before = key;
    size_t i = SkipSpace(text, key + kKey.size(), in.end);
    if (i >= in.end || text[i] != ':') continue;  // the word in quotes, not a key
    i = SkipSpace(text, i + 1, in.end);
    if (i >= in.end) return std::nullopt;
    if (text[i] == '"') {
      const std::optional<size_t> end = StringEnd(text, i + 1, in.end);
      if (!end) return std::nullopt;
      return Region{i + 1, *end};
    }
    if (text.substr(i).starts_with("null")) return Region{i, i};
    // A bare value runs to the end of its line or object; an object value keeps what is inside.
    const bool object = text[i] == '{';
    size_t end = object ? std::min(text.find('}', i), in.end) : LineEnd(text, i, in.end);
    if (!object) end = std::min(end, std::min(text.find('}', i), in.end));
    if (object && end < in.end) ++end;
    while (!object && end > i && (IsSpace(text[end - 1]) || text[end - 1] == ',')) --end;
    return Region{i, end};
  }
}

bool OpensAsObject(std::string_view text, Region in) {
  size_t i = SkipSpace(text, in.begin, in.end);
  if (text.substr(i, in.end - i).starts_with("```")) i = SkipSpace(text, LineEnd(text, i, in.end), in.end);
  return i < in.end && text[i] == '{';
}

std::optional<Region> LastBoxed(std::string_view text, Region in) {
  const std::string_view view = Slice(text, in);
  // Bounded: a flood of unbalanced boxes is not searched further than this many back.
  size_t before = view.size();
  for (int tries = 0; tries < 8; ++tries) {
    size_t at = std::string_view::npos;
    size_t open = 0;
    for (std::string_view command : {"\\boxed{", "\\fbox{"}) {
      const size_t found = view.rfind(command, before);
      if (found == std::string_view::npos || (at != std::string_view::npos && found < at)) continue;
      at = found;
      open = found + command.size();
    }
    if (at == std::string_view::npos) return std::nullopt;
    int depth = 1;
    for (size_t i = open; i < view.size(); ++i) {
      if (view[i] == '\\') {
        ++i;
      } else if (view[i] == '{') {
        ++depth;
      } else if (view[i] == '}' && --depth == 0) {
        return Region{in.begin + open, in.begin + i};
      }
    }
    if (at == 0) return std::nullopt;
    before = at - 1;
  }
  return std::nullopt;
}

std::optional<Region> AfterAnswerMarker(std::string_view text, Region in) {
  constexpr std::string_view kWord = "answer";
  for (size_t before = in.end;;) {
    const size_t at = RFindCaseless(text, kWord, in, before);
    if (at == std::string_view::npos) return std::nullopt;
    before = at;
    size_t i = at + kWord.size();
    bool marked = false;
    const auto skip_decoration = [&] {
      while (i < in.end && (text[i] == '*' || text[i] == '_' || text[i] == ' ' || text[i] == '\t')) ++i;
    };
    skip_decoration();
    if (i + 2 < in.end && Lower(text[i]) == 'i' && Lower(text[i + 1]) == 's' && !IsAlpha(text[i + 2])) {
      marked = true;
      i += 2;
      skip_decoration();
    }
    if (i < in.end && (text[i] == ':' || text[i] == '=')) {
      marked = true;
      ++i;
      skip_decoration();
    }
    if (!marked) continue;
    Region region = Trim(text, {i, SentenceEnd(text, i, in.end)});
    if (region.begin == region.end) {
      i = SkipSpace(text, std::min(LineEnd(text, i, in.end), in.end), in.end);
      region = {i, LineEnd(text, i, in.end)};
    }
    if (region.begin >= region.end) continue;
    return region;
  }
}

}  // namespace conclave::grade
