// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "common/jinja/builtins.h"
#include "common/jinja/printing.h"
#include "common/jinja/text_operations.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

// Where `text` may be broken: runs of spaces, words, and behind hyphens between letters (a part of Python's textwrap).
std::vector<ByteRange> WrapChunks(std::string_view text, bool at_hyphens) {
  std::vector<ByteRange> chunks;
  for (size_t begin = 0; begin < text.size();) {
    const bool space = text[begin] == ' ';
    size_t end = begin + 1;
    while (end < text.size() && (text[end] == ' ') == space) {
      const bool hyphen = at_hyphens && text[end - 1] == '-' && end >= begin + 2;
      if (hyphen && IsAlpha(static_cast<unsigned char>(text[end - 2])) &&
          IsAlpha(static_cast<unsigned char>(text[end]))) {
        break;
      }
      ++end;
    }
    chunks.push_back({begin, end});
    begin = end;
  }
  return chunks;
}

// Breaks one line into lines of at most `width` code points; appends them to `out` with `wrap` between.
absl::Status WrapLine(Runtime& runtime, std::string_view text, size_t width, bool cut_words, bool at_hyphens,
                      const std::string& wrap, std::string* out) {
  std::string line;
  bool first = true;
  auto flush = [&]() -> absl::Status {
    while (line.ends_with(' ')) line.pop_back();
    if (line.empty()) return absl::OkStatus();
    if (!first) *out += wrap;
    first = false;
    *out += std::exchange(line, "");
    return runtime.budget().CheckLength(out->size());
  };
  for (const ByteRange& chunk : WrapChunks(text, at_hyphens)) {
    RETURN_IF_ERROR(runtime.budget().Scan(kBytesPerStep + line.size()));
    std::string_view rest = text.substr(chunk.begin, chunk.end - chunk.begin);
    if (line.empty() && rest[0] == ' ' && !first) continue;
    while (CodePointCount(line) + CodePointCount(rest) > width) {
      RETURN_IF_ERROR(runtime.budget().Scan(kBytesPerStep + rest.size() * 4));
      if (CodePointCount(rest) > width && cut_words) {
        const size_t cut = ByteOffset(rest, width - CodePointCount(line));
        line += rest.substr(0, cut);
        rest.remove_prefix(cut);
      } else if (line.empty()) {
        break;
      }
      RETURN_IF_ERROR(flush());
      if (!rest.empty() && rest[0] == ' ') rest = "";
    }
    line += rest;
  }
  return flush();
}

}  // namespace

absl::StatusOr<Value> WordWrap(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(
      auto bound,
      Bind({"do_wordwrap", {"width", "break_long_words", "wrapstring", "break_on_hyphens"}, 0, 2}, arguments));
  ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(bound[0], 79));
  if (width <= 0) return Raise(ErrorType::kValueError, "invalid width {} (must be > 0)", width);
  const bool cut_words = bound[1].IsMissing() || bound[1].Truthy();
  const bool at_hyphens = bound[3].IsMissing() || bound[3].Truthy();
  const std::string wrap = bound[2].IsString() ? bound[2].AsString() : "\n";
  if (self.IsUndefined()) return UndefinedError(self);
  if (!self.IsString()) {
    return Raise(ErrorType::kAttributeError, "'{}' object has no attribute 'splitlines'", self.TypeName());
  }
  const Text& text = self.AsText();
  ASSIGN_OR_RETURN(const std::vector<Value> lines, SplitLines(runtime, text, false));
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += wrap;
    RETURN_IF_ERROR(
        WrapLine(runtime, lines[i].AsString(), static_cast<size_t>(width), cut_words, at_hyphens, wrap, &out));
  }
  return runtime.NewText(DerivedText(std::move(out), text));
}

}  // namespace conclave::jinja
