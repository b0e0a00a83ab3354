// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/page_key.h"

#include <algorithm>

#include "common/hash.h"

namespace conclave::engine {
namespace {

std::string_view AsBytes(const void* data, size_t bytes) {
  return std::string_view(static_cast<const char*>(data), bytes);
}

PageKey Finish(Sha256* hash) {
  const auto words = hash->Digest();
  return {uint64_t{words[0]} << 32 | words[1], uint64_t{words[2]} << 32 | words[3]};
}

}  // namespace

PageKey RootPageKey(std::string_view model_revision, uint64_t routing_policy_hash, std::string_view cache_salt) {
  Sha256 hash;
  // Lengths first, so that no two triples give the same bytes.
  for (std::string_view part : {model_revision, cache_salt}) {
    const uint64_t size = part.size();
    hash.Update(AsBytes(&size, sizeof(size)));
    hash.Update(part);
  }
  hash.Update(AsBytes(&routing_policy_hash, sizeof(routing_policy_hash)));
  return Finish(&hash);
}

PageKey NextPageKey(const PageKey& parent, std::span<const int32_t> tokens) {
  Sha256 hash;
  hash.Update(AsBytes(&parent.high, sizeof(parent.high)));
  hash.Update(AsBytes(&parent.low, sizeof(parent.low)));
  hash.Update(AsBytes(tokens.data(), tokens.size_bytes()));
  return Finish(&hash);
}

void ExtendPageKeys(const PageKey& root, std::span<const int32_t> tokens, int32_t page_tokens,
                    std::vector<PageKey>* keys) {
  const size_t full = tokens.size() / page_tokens;
  while (keys->size() < full) {
    const PageKey& parent = keys->empty() ? root : keys->back();
    keys->push_back(NextPageKey(parent, tokens.subspan(keys->size() * page_tokens, page_tokens)));
  }
}

int32_t CommonTokens(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<int32_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace conclave::engine
