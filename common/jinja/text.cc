// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/text.h"

#include <algorithm>

namespace conclave::jinja {

Text MakeUserText(std::string bytes) {
  Text text{std::move(bytes), {}, false};
  if (!text.bytes.empty()) text.user.push_back({0, text.bytes.size()});
  return text;
}

Text Substring(const Text& text, size_t begin, size_t end) {
  TextBuilder builder;
  builder.Append(text, begin, end);
  return builder.Take();
}

Text DerivedText(std::string bytes, const Text& origin) {
  Text text = origin.user.empty() ? Text{std::move(bytes), {}, false} : MakeUserText(std::move(bytes));
  text.markup = origin.markup;
  return text;
}

void TextBuilder::AddRange(size_t begin, size_t end) {
  if (begin == end) return;
  if (!user_.empty() && user_.back().end == begin) {
    user_.back().end = end;
  } else {
    user_.push_back({begin, end});
  }
}

void TextBuilder::Append(const Text& text, size_t begin, size_t end) {
  const size_t base = bytes_.size();
  bytes_.append(text.bytes, begin, end - begin);
  if (text.user.empty()) return;
  auto range = std::upper_bound(text.user.begin(), text.user.end(), begin,
                                [](size_t at, const ByteRange& r) { return at < r.end; });
  for (; range != text.user.end() && range->begin < end; ++range) {
    AddRange(base + std::max(range->begin, begin) - begin, base + std::min(range->end, end) - begin);
  }
}

void TextBuilder::AppendUser(std::string_view bytes) {
  const size_t base = bytes_.size();
  bytes_.append(bytes);
  AddRange(base, bytes_.size());
}

void TextBuilder::AppendRepeated(const Text& text, size_t count) {
  bytes_.reserve(bytes_.size() + text.bytes.size() * count);
  for (size_t i = 0; i < count; ++i) Append(text);
}

}  // namespace conclave::jinja
