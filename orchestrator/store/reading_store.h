// SPDX-License-Identifier: Apache-2.0
// A store that reads what another holds and writes in a way of its own: what tests and the simulator put between an
// executor and its disk.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

class ReadingStore : public Store {
 public:
  // `inner` must outlive this.
  explicit ReadingStore(Store* inner) : inner_(inner) {}

  absl::StatusOr<StoredRun> GetRun(std::string_view run_id) const override { return inner_->GetRun(run_id); }
  absl::StatusOr<std::vector<StoredRun>> ListRuns(int64_t before_number, int64_t count) const override {
    return inner_->ListRuns(before_number, count);
  }
  absl::StatusOr<std::vector<StoredRun>> UnfinishedRuns() const override { return inner_->UnfinishedRuns(); }
  absl::StatusOr<std::vector<std::string>> ReadEvents(std::string_view run_id, int64_t after, int64_t count,
                                                      int64_t bytes) const override {
    return inner_->ReadEvents(run_id, after, count, bytes);
  }
  absl::StatusOr<std::vector<StoredInput>> ReadInputs(std::string_view run_id) const override {
    return inner_->ReadInputs(run_id);
  }
  absl::StatusOr<StoredRun> FindRequest(std::string_view request_id) const override {
    return inner_->FindRequest(request_id);
  }
  absl::StatusOr<std::string> GetGraph(std::string_view revision) const override { return inner_->GetGraph(revision); }
  absl::Status ReadResults(const std::function<absl::Status(const StoredResult&)>& visit) const override {
    return inner_->ReadResults(visit);
  }
  absl::StatusOr<std::optional<std::string>> GetMeta(std::string_view key) const override {
    return inner_->GetMeta(key);
  }

 protected:
  Store* inner() const { return inner_; }

 private:
  Store* const inner_;
};

}  // namespace conclave::orchestrator
