// SPDX-License-Identifier: Apache-2.0
// The Generate calls of this process: which live, and which request ids are taken.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "common/mutex.h"
#include "worker/generate_stream.h"

namespace conclave::worker {

// Thread-safe. Never calls a stream with its own mutex held.
class StreamTable final : public StreamOwner {
 public:
  void Add(std::shared_ptr<GenerateStream> stream);
  // ALREADY_EXISTS REQUEST_ID_REUSED while another request with this id runs.
  absl::Status TakeId(const std::string& id, GenerateStream* stream);
  // The id may be used again, if `stream` holds it.
  void ReleaseId(const std::string& id, GenerateStream* stream);

  // The stream that runs this request, or null.
  std::shared_ptr<GenerateStream> Find(const std::string& id) const;
  std::vector<std::shared_ptr<GenerateStream>> All() const;
  // Streams whose request is with the engine.
  std::vector<std::shared_ptr<GenerateStream>> Running() const;

  int32_t size() const;
  // Waits until no stream lives. False after `timeout_ns`.
  bool WaitEmpty(int64_t timeout_ns) const;

  void OnRequestEnded(GenerateStream* stream) override;
  void OnStreamClosed(GenerateStream* stream) override;

 private:
  mutable Mutex mutex_;
  mutable CondVar closed_;
  std::map<GenerateStream*, std::shared_ptr<GenerateStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, GenerateStream*> ids_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::worker
