// SPDX-License-Identifier: Apache-2.0
#include "worker/stream_table.h"

#include <utility>

#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::worker {

void StreamTable::Add(std::shared_ptr<GenerateStream> stream) {
  MutexLock lock(&mutex_);
  GenerateStream* const key = stream.get();
  streams_.emplace(key, std::move(stream));
}

absl::Status StreamTable::TakeId(const std::string& id, GenerateStream* stream) {
  MutexLock lock(&mutex_);
  if (ids_.emplace(id, stream).second) return absl::OkStatus();
  return rpc::WithReason(AlreadyExists("a request with id \"{}\" is running; give each request its own", id),
                         "REQUEST_ID_REUSED");
}

void StreamTable::ReleaseId(const std::string& id, GenerateStream* stream) {
  MutexLock lock(&mutex_);
  const auto found = ids_.find(id);
  if (found != ids_.end() && found->second == stream) ids_.erase(found);
}

std::shared_ptr<GenerateStream> StreamTable::Find(const std::string& id) const {
  MutexLock lock(&mutex_);
  const auto found = ids_.find(id);
  return found == ids_.end() ? nullptr : streams_.at(found->second);
}

std::vector<std::shared_ptr<GenerateStream>> StreamTable::All() const {
  MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<GenerateStream>> out;
  out.reserve(streams_.size());
  for (const auto& [key, stream] : streams_) out.push_back(stream);
  return out;
}

std::vector<std::shared_ptr<GenerateStream>> StreamTable::Running() const {
  MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<GenerateStream>> out;
  out.reserve(ids_.size());
  for (const auto& [id, stream] : ids_) out.push_back(streams_.at(stream));
  return out;
}

int32_t StreamTable::size() const {
  MutexLock lock(&mutex_);
  return static_cast<int32_t>(streams_.size());
}

bool StreamTable::WaitEmpty(int64_t timeout_ns) const {
  MutexLock lock(&mutex_);
  while (!streams_.empty()) {
    if (!closed_.WaitWithTimeout(&mutex_, timeout_ns)) return streams_.empty();
  }
  return true;
}

void StreamTable::OnRequestEnded(GenerateStream* stream) { ReleaseId(stream->request_id(), stream); }

void StreamTable::OnStreamClosed(GenerateStream* stream) {
  std::shared_ptr<GenerateStream> last;  // destroyed after the lock is released
  MutexLock lock(&mutex_);
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  last = std::move(found->second);
  streams_.erase(found);
  closed_.SignalAll();
}

}  // namespace conclave::worker
