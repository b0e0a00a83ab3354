// SPDX-License-Identifier: Apache-2.0
#include "worker/prefix_table.h"

#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "protos/rpc_status.h"
#include "worker/limits.h"

namespace conclave::worker {

PrefixTable::PrefixTable(std::string_view instance_id) : name_(instance_id) {}

absl::Status PrefixTable::Reserve() {
  MutexLock lock(&mutex_);
  if (closed_) {
    return rpc::WithReason(Unavailable("this worker is draining and holds no prefixes; ask another one"), "DRAINING");
  }
  const auto held = static_cast<int32_t>(held_.size()) + reserved_;
  if (held >= kPinnedPrefixesMax) {
    return rpc::WithReason(ResourceExhausted("{} prefixes are held or being computed, the limit is {}; release some, "
                                             "or let their leases run out",
                                             held, kPinnedPrefixesMax),
                           "PREFIX_LIMIT");
  }
  ++reserved_;
  return absl::OkStatus();
}

void PrefixTable::Forgo() {
  MutexLock lock(&mutex_);
  CONCLAVE_CHECK(reserved_ > 0);
  --reserved_;
}

std::optional<std::string> PrefixTable::Add(PinnedPrefix prefix, int64_t expires_ns) {
  MutexLock lock(&mutex_);
  CONCLAVE_CHECK(reserved_ > 0);
  --reserved_;
  if (closed_) return std::nullopt;
  std::string id = fmt::format("{}/{}", name_, ++made_);
  held_.emplace(id, Entry{std::move(prefix), expires_ns});
  return id;
}

absl::StatusOr<PinnedPrefix> PrefixTable::Find(std::string_view id, std::string_view cache_salt, int64_t now_ns) const {
  MutexLock lock(&mutex_);
  const auto found = held_.find(id);
  if (found == held_.end() || found->second.expires_ns <= now_ns || found->second.prefix.cache_salt != cache_salt) {
    return rpc::WithReason(NotFound("prefix \"{}\" is not held here for this cache_salt: released, its lease over, or "
                                    "of another process; send the whole prompt",
                                    rpc::CutUtf8(id, 128)),
                           "PREFIX_NOT_FOUND");
  }
  return found->second.prefix;
}

bool PrefixTable::Renew(std::string_view id, int64_t now_ns, int64_t expires_ns) {
  MutexLock lock(&mutex_);
  const auto found = held_.find(id);
  if (found == held_.end() || found->second.expires_ns <= now_ns) return false;
  found->second.expires_ns = expires_ns;
  return true;
}

std::optional<engine::PinId> PrefixTable::Remove(std::string_view id) {
  MutexLock lock(&mutex_);
  const auto found = held_.find(id);
  if (found == held_.end()) return std::nullopt;
  const engine::PinId pin = found->second.prefix.pin;
  held_.erase(found);
  return pin;
}

std::vector<engine::PinId> PrefixTable::TakeExpired(int64_t now_ns) {
  MutexLock lock(&mutex_);
  std::vector<engine::PinId> pins;
  std::erase_if(held_, [&](const auto& entry) {
    if (entry.second.expires_ns > now_ns) return false;
    pins.push_back(entry.second.prefix.pin);
    return true;
  });
  return pins;
}

std::vector<engine::PinId> PrefixTable::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
  std::vector<engine::PinId> pins;
  for (const auto& [id, entry] : held_) pins.push_back(entry.prefix.pin);
  held_.clear();
  return pins;
}

int32_t PrefixTable::size() const {
  MutexLock lock(&mutex_);
  return static_cast<int32_t>(held_.size());
}

int64_t PrefixTable::tokens() const {
  MutexLock lock(&mutex_);
  int64_t tokens = 0;
  for (const auto& [id, entry] : held_) tokens += std::ssize(*entry.prefix.tokens);
  return tokens;
}

}  // namespace conclave::worker
