// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/text_operations.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

// The code points to strip.
class StripSet {
 public:
  explicit StripSet(const Value& characters) : white_space_(!characters.IsString()) {
    if (white_space_) return;
    const std::string& members = characters.AsString();
    for (size_t at = 0; at < members.size();) {
      const CodePoint c = DecodeAt(members, at);
      c.value < 0x80 ? ascii_[c.value] = true : (others_.push_back(c.value), true);
      at += c.bytes;
    }
    std::sort(others_.begin(), others_.end());
  }

  bool Has(char32_t c) const {
    if (white_space_) return IsSpace(c);
    return c < 0x80 ? ascii_[c] : std::binary_search(others_.begin(), others_.end(), c);
  }

 private:
  bool white_space_;
  std::array<bool, 128> ascii_{};
  std::vector<char32_t> others_;
};

}  // namespace

size_t FindFrom(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return kNotFound;
  if (part.empty()) return from;
  const void* hit = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return hit == nullptr ? kNotFound : static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}

// The first occurrence in the mirrored strings.
size_t FindLast(std::string_view text, std::string_view part, size_t end) {
  if (part.empty()) return end;
  const std::string mirrored_text(text.rbegin() + static_cast<std::ptrdiff_t>(text.size() - end), text.rend());
  const std::string mirrored_part(part.rbegin(), part.rend());
  const size_t at = FindFrom(mirrored_text, mirrored_part, 0);
  return at == kNotFound ? kNotFound : end - at - part.size();
}

absl::StatusOr<Value> Piece(Runtime& runtime, const Text& text, size_t begin, size_t end) {
  return runtime.NewText(Substring(text, begin, end));
}

absl::StatusOr<Value> Strip(Runtime& runtime, const Value& value, const Value& characters, StripSide side) {
  const Text& text = value.AsText();
  RETURN_IF_ERROR(runtime.budget().Scan(characters.IsString() ? characters.AsString().size() * 8 : 0));
  const StripSet set(characters);
  size_t begin = 0, end = text.bytes.size();
  while (side != StripSide::kRight && begin < end) {
    const CodePoint c = DecodeAt(text.bytes, begin);
    if (!set.Has(c.value)) break;
    begin += c.bytes;
  }
  while (side != StripSide::kLeft && end > begin) {
    const CodePoint c = DecodeBefore(text.bytes, end);
    if (!set.Has(c.value)) break;
    end -= c.bytes;
  }
  if (begin == 0 && end == text.bytes.size()) return value;
  RETURN_IF_ERROR(runtime.budget().Scan((text.bytes.size() - (end - begin)) * 4));
  Text out = Substring(text, begin, end);
  out.markup = text.markup;
  return runtime.NewText(std::move(out));
}

absl::StatusOr<Value> Replace(Runtime& runtime, const Text& text, const Text& from, const Text& to, int64_t count) {
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size()));
  TextBuilder out;
  size_t done = 0;
  auto put = [&](size_t at) -> absl::Status {
    out.Append(text, done, at);
    out.Append(to);
    done = at;
    if (count > 0) --count;
    // Every insertion counts: a short text may become a huge one.
    RETURN_IF_ERROR(runtime.budget().Scan(to.bytes.size() + 32));
    return runtime.budget().CheckLength(out.size());
  };
  if (from.bytes.empty()) {
    for (size_t at = 0; count != 0;) {
      RETURN_IF_ERROR(put(at));
      if (at == text.bytes.size()) break;
      at += DecodeAt(text.bytes, at).bytes;
    }
  } else {
    for (size_t at = 0; count != 0 && (at = FindFrom(text.bytes, from.bytes, at)) != kNotFound; at = done) {
      RETURN_IF_ERROR(put(at));
      done = at + from.bytes.size();
    }
  }
  out.Append(text, done, text.bytes.size());
  return runtime.NewText(out.Take());
}

absl::StatusOr<Value> Join(Runtime& runtime, const Text& separator, const std::vector<Text>& parts) {
  TextBuilder out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out.Append(separator);
    out.Append(parts[i]);
    RETURN_IF_ERROR(runtime.budget().CheckLength(out.size()));
    RETURN_IF_ERROR(runtime.budget().Step());
  }
  return runtime.NewText(out.Take());
}

absl::StatusOr<std::vector<Value>> SplitLines(Runtime& runtime, const Text& text, bool keep_ends) {
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.bytes.size();) {
    const CodePoint c = DecodeAt(text.bytes, at);
    size_t next = at + c.bytes;
    if (IsLineBreak(c.value)) {
      if (c.value == '\r' && next < text.bytes.size() && text.bytes[next] == '\n') ++next;
      ASSIGN_OR_RETURN(Value line, Piece(runtime, text, begin, keep_ends ? next : at));
      RETURN_IF_ERROR(runtime.budget().Allocate(sizeof(Value)));
      lines.push_back(std::move(line));
      begin = next;
    }
    at = next;
  }
  if (begin < text.bytes.size()) {
    ASSIGN_OR_RETURN(Value line, Piece(runtime, text, begin, text.bytes.size()));
    lines.push_back(std::move(line));
  }
  return lines;
}

absl::StatusOr<Value> Center(Runtime& runtime, const Text& text, int64_t width, const Text& fill) {
  const auto length = static_cast<int64_t>(CodePointCount(text.bytes));
  const int64_t missing = std::max<int64_t>(width - length, 0);
  RETURN_IF_ERROR(runtime.budget().CheckLength(text.bytes.size() + static_cast<size_t>(missing)));
  const int64_t left = missing / 2 + (missing & width & 1);  // Python's rule for odd gaps
  TextBuilder out;
  out.AppendRepeated(fill, static_cast<size_t>(left));
  out.Append(text);
  out.AppendRepeated(fill, static_cast<size_t>(missing - left));
  return runtime.NewText(out.Take());
}

}  // namespace conclave::jinja
