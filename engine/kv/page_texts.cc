// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/page_texts.h"

#include <algorithm>
#include <tuple>

#include "common/check.h"

namespace conclave::engine {

PageTexts::PageTexts(int32_t num_pages, int32_t page_tokens)
    : page_tokens_(page_tokens),
      parents_(num_pages),
      tokens_(static_cast<size_t>(num_pages) * page_tokens),
      counts_(num_pages, 0) {}

bool PageTexts::Before::operator()(const Text& a, const Text& b) const {
  const auto key = [](const Text& text) { return std::tie(text.parent.low, text.parent.high); };
  if (a.parent != b.parent) return key(a) < key(b);
  return std::lexicographical_compare(a.tokens.begin(), a.tokens.end(), b.tokens.begin(), b.tokens.end());
}

PageTexts::Text PageTexts::TextOf(int32_t page) const {
  const std::span<const int32_t> all(tokens_);
  return {parents_[page], all.subspan(static_cast<size_t>(page) * page_tokens_, counts_[page]), page};
}

PageTexts::Match PageTexts::Longest(const PageKey& parent, std::span<const int32_t> tokens) const {
  Match best;
  const auto consider = [&](const Text& text) {
    if (text.parent != parent) return;
    const int32_t common = CommonTokens(text.tokens, tokens);
    if (common > best.tokens) best = {text.page, common};
  };
  const auto after = order_.lower_bound(Text{parent, tokens, kNone});
  if (after != order_.end()) consider(*after);
  if (after != order_.begin()) consider(*std::prev(after));
  return best;
}

void PageTexts::Insert(int32_t page, const PageKey& parent, std::span<const int32_t> tokens) {
  CONCLAVE_CHECK(counts_[page] == 0 && !tokens.empty() && std::ssize(tokens) <= page_tokens_);
  parents_[page] = parent;
  std::copy(tokens.begin(), tokens.end(), tokens_.begin() + int64_t{page} * page_tokens_);
  counts_[page] = static_cast<int32_t>(tokens.size());
  CONCLAVE_CHECK(order_.insert(TextOf(page)).second);
}

void PageTexts::Erase(int32_t page) {
  if (counts_[page] == 0) return;
  CONCLAVE_CHECK(order_.erase(TextOf(page)) == 1);
  counts_[page] = 0;
}

}  // namespace conclave::engine
