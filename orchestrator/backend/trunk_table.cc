// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/trunk_table.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

// Between a message's role and content, and behind it: in no text that a template writes otherwise.
constexpr char kRoleEnd = '\x01', kMessageEnd = '\x02';

}  // namespace

std::vector<deliberation::v1::PromptMessage> FirstOfPrompt(const std::vector<deliberation::v1::PromptMessage>& prompt,
                                                           size_t bytes) {
  std::vector<deliberation::v1::PromptMessage> first;
  for (const deliberation::v1::PromptMessage& message : prompt) {
    const size_t role = message.role().size() + 1;
    if (bytes <= role) break;
    bytes -= role;
    const std::string_view content = rpc::CutUtf8(message.content(), bytes);
    if (content.empty() && !message.content().empty()) break;
    deliberation::v1::PromptMessage& cut = first.emplace_back(message);
    cut.set_content(std::string(content));
    if (content.size() < message.content().size() || content.size() == bytes) break;
    bytes -= content.size() + 1;
  }
  return first;
}

size_t TrunkTable::CommonOrLess(const Key& a, const Key& b, size_t known) {
  const std::string_view x = a.text, y = b.text;
  if (a.kind != b.kind || x.size() <= known || y.size() <= known) return known;
  if (x.substr(0, known + 1) != y.substr(0, known + 1)) return known;
  const auto differs = std::mismatch(x.begin() + static_cast<std::ptrdiff_t>(known), x.end(),
                                     y.begin() + static_cast<std::ptrdiff_t>(known), y.end());
  return static_cast<size_t>(differs.first - x.begin());
}

bool TrunkTable::BeginsWith(const Key& key, const Key& trunk) {
  return key.kind == trunk.kind && key.text.starts_with(trunk.text);
}

TrunkTable::Key TrunkTable::KeyOf(const CallRequest& request) {
  Key key;
  key.kind = fmt::format("{} {} {}", request.plain,
                         request.sampling.has_experts_per_token() ? request.sampling.experts_per_token() : 0,
                         request.now_unix_seconds.value_or(0));
  for (const deliberation::v1::PromptMessage& message : request.prompt) {
    key.text += message.role();
    key.text += kRoleEnd;
    key.text.append(message.content(), 0, kTrunkBytesMax);
    key.text += kMessageEnd;
    if (key.text.size() >= kTrunkBytesMax) break;
  }
  if (key.text.size() > kTrunkBytesMax) key.text.resize(kTrunkBytesMax);
  return key;
}

std::optional<TrunkTable::Wanted> TrunkTable::OnEnd(int32_t index, const CallRequest& request, int64_t now_ns) {
  Worker& worker = workers_[static_cast<size_t>(index)];
  Key key = KeyOf(request);
  if (key.text.size() < kTrunkBytesMin) return std::nullopt;
  size_t shared = 0, covered = 0;
  for (const Key& other : worker.recent) shared = CommonOrLess(other, key, shared);
  for (Trunk& trunk : worker.trunks) {
    covered = CommonOrLess(trunk.key, key, covered);
    if (BeginsWith(key, trunk.key)) trunk.used_ns = now_ns;
  }
  if (shared < key.text.size()) {
    worker.recent.push_front(key);
    if (worker.recent.size() > kRecentPromptsMax) worker.recent.pop_back();
  }
  if (shared < covered + kTrunkBytesMin || !worker.able || now_ns < worker.again_ns) return std::nullopt;
  const auto coming = std::count_if(worker.trunks.begin(), worker.trunks.end(),
                                    [](const Trunk& trunk) { return trunk.prefix_id.empty(); });
  if (coming >= static_cast<std::ptrdiff_t>(kTrunksMax)) return std::nullopt;
  Wanted wanted = {.worker = index, .ticket = ++tickets_, .trunk = {}};
  wanted.trunk.prompt = FirstOfPrompt(request.prompt, shared);
  if (wanted.trunk.prompt.empty()) return std::nullopt;
  wanted.trunk.member = request.member;
  wanted.trunk.plain = request.plain;
  wanted.trunk.now_unix_seconds = request.now_unix_seconds;
  if (request.sampling.has_experts_per_token()) {
    wanted.trunk.sampling.set_experts_per_token(request.sampling.experts_per_token());
  }
  key.text.resize(shared);
  worker.trunks.push_back({.ticket = wanted.ticket, .key = std::move(key), .used_ns = now_ns});
  return wanted;
}

int32_t TrunkTable::Warmest(const CallRequest& request, const std::vector<int32_t>& candidates) const {
  if (candidates.size() < 2) return -1;
  const Key key = KeyOf(request);
  int32_t warmest = -1;
  size_t most = kTrunkBytesMin - 1;
  for (const int32_t candidate : candidates) {
    const Worker& worker = workers_[static_cast<size_t>(candidate)];
    size_t common = most;
    for (const Key& other : worker.recent) common = CommonOrLess(other, key, common);
    for (const Trunk& trunk : worker.trunks) common = CommonOrLess(trunk.key, key, common);
    if (common > most) {
      most = common;
      warmest = candidate;
    }
  }
  return warmest;
}

std::string TrunkTable::DropOldest(Worker* worker) {
  auto oldest = worker->trunks.end();
  for (auto it = worker->trunks.begin(); it != worker->trunks.end(); ++it) {
    if (it->prefix_id.empty()) continue;
    if (oldest == worker->trunks.end() || it->used_ns < oldest->used_ns) oldest = it;
  }
  if (oldest == worker->trunks.end()) return "";
  std::string id = std::move(oldest->prefix_id);
  worker->trunks.erase(oldest);
  return id;
}

std::vector<std::string> TrunkTable::OnPinned(int32_t index, uint64_t ticket, const absl::Status& status,
                                              const std::string& prefix_id, int64_t now_ns) {
  Worker& worker = workers_[static_cast<size_t>(index)];
  std::vector<std::string> release;
  const auto it = std::find_if(worker.trunks.begin(), worker.trunks.end(),
                               [ticket](const Trunk& trunk) { return trunk.ticket == ticket; });
  if (it == worker.trunks.end()) {  // forgotten meanwhile
    if (status.ok()) release.push_back(prefix_id);
    return release;
  }
  if (!status.ok()) {
    worker.trunks.erase(it);
    if (absl::IsUnimplemented(status) || absl::IsFailedPrecondition(status)) worker.able = false;
    worker.again_ns = now_ns + kTrunkAgainNs;
    if (rpc::Reason(status) == "PREFIX_LIMIT") release.push_back(DropOldest(&worker));
    std::erase(release, "");
    return release;
  }
  it->prefix_id = prefix_id;
  it->renewed_ns = now_ns;
  // What it begins with is pinned with it.
  const Key key = it->key;
  std::erase_if(worker.trunks, [&](const Trunk& other) {
    const bool within = other.ticket != ticket && !other.prefix_id.empty() && BeginsWith(key, other.key);
    if (within) release.push_back(other.prefix_id);
    return within;
  });
  while (worker.trunks.size() > kTrunksMax) {
    std::string id = DropOldest(&worker);
    if (id.empty()) break;
    release.push_back(std::move(id));
  }
  return release;
}

void TrunkTable::OnLapsed(int32_t worker, const std::string& prefix_id) {
  std::erase_if(workers_[static_cast<size_t>(worker)].trunks,
                [&](const Trunk& trunk) { return trunk.prefix_id == prefix_id; });
}

void TrunkTable::Forget(int32_t worker) { workers_[static_cast<size_t>(worker)] = Worker(); }

std::vector<TrunkTable::Due> TrunkTable::TakeDue(int64_t now_ns) {
  std::vector<Due> all;
  for (size_t i = 0; i < workers_.size(); ++i) {
    Due due = {.worker = static_cast<int32_t>(i), .renew = {}, .release = {}};
    std::erase_if(workers_[i].trunks, [&](Trunk& trunk) {
      if (trunk.prefix_id.empty()) return false;
      const bool idle = now_ns - trunk.used_ns >= kTrunkIdleNs;
      if (idle) {
        due.release.push_back(trunk.prefix_id);
      } else if (now_ns - trunk.renewed_ns >= kTrunkBeatNs) {
        trunk.renewed_ns = now_ns;
        due.renew.push_back(trunk.prefix_id);
      }
      return idle;
    });
    if (!due.renew.empty() || !due.release.empty()) all.push_back(std::move(due));
  }
  return all;
}

std::vector<TrunkTable::Due> TrunkTable::TakeAll() {
  std::vector<Due> all;
  for (size_t i = 0; i < workers_.size(); ++i) {
    Due due = {.worker = static_cast<int32_t>(i), .renew = {}, .release = {}};
    for (const Trunk& trunk : workers_[i].trunks) {
      if (!trunk.prefix_id.empty()) due.release.push_back(trunk.prefix_id);
    }
    workers_[i].trunks.clear();
    if (!due.release.empty()) all.push_back(std::move(due));
  }
  return all;
}

int32_t TrunkTable::pinned(int32_t worker) const {
  const auto& trunks = workers_[static_cast<size_t>(worker)].trunks;
  return static_cast<int32_t>(
      std::count_if(trunks.begin(), trunks.end(), [](const Trunk& trunk) { return !trunk.prefix_id.empty(); }));
}

}  // namespace conclave::orchestrator
