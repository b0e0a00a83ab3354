// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/shard.h"

#include <charconv>
#include <map>

#include "common/status.h"

namespace conclave::experiment {

absl::StatusOr<Shard> ParseShard(std::string_view text) {
  Shard shard;
  const char* const end = text.data() + text.size();
  const auto index = std::from_chars(text.data(), end, shard.index);
  const bool slash = index.ec == std::errc() && index.ptr != end && *index.ptr == '/';
  const auto count =
      slash ? std::from_chars(index.ptr + 1, end, shard.count) : std::from_chars_result{end, std::errc()};
  if (!slash || count.ec != std::errc() || count.ptr != end || shard.count < 1 || shard.count > kShardsMax ||
      shard.index < 1 || shard.index > shard.count) {
    return InvalidArgument("shard \"{}\": i/n is needed, i from 1 to n, n at most {}, e.g. 3/8", text, kShardsMax);
  }
  return shard;
}

absl::Status CheckComplete(const std::vector<Shard>& shards, const std::vector<std::string>& names) {
  std::map<int32_t, std::string> found;
  for (size_t i = 0; i < shards.size(); ++i) {
    if (shards[i].count != shards[0].count) {
      return InvalidArgument("{} is shard {}/{}, {} is shard {}/{}: not parts of one whole", names[0], shards[0].index,
                             shards[0].count, names[i], shards[i].index, shards[i].count);
    }
    const auto [it, fresh] = found.try_emplace(shards[i].index, names[i]);
    if (!fresh) {
      return InvalidArgument("{} and {} overlap: both are shard {}/{}", it->second, names[i], shards[i].index,
                             shards[i].count);
    }
  }
  for (int32_t index = 1; !shards.empty() && index <= shards[0].count; ++index) {
    if (!found.contains(index)) return InvalidArgument("shard {}/{} is missing", index, shards[0].count);
  }
  return absl::OkStatus();
}

}  // namespace conclave::experiment
