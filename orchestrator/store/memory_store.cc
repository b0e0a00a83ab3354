// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/store/memory_store.h"

#include <map>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/store/checks.h"

namespace conclave::orchestrator {
namespace {

struct MemoryRun {
  StoredRun stored;
  std::vector<std::string> events;
  std::vector<StoredInput> inputs;
};

// All of it in one lock: no reader sees half a batch.
class MemoryStore final : public Store {
 public:
  void Write(std::vector<WriteOp> batch, WriteDone done) override {
    WriteResult result;
    {
      MutexLock lock(&mutex_);
      result.status = CheckBatch(batch);
      // Every operation is tried against what is stored and what the batch itself adds, before anything is kept.
      if (result.status.ok()) result.status = TryBatch(batch, &result.existing_run_id);
      if (result.status.ok() && result.existing_run_id.empty()) {
        for (WriteOp& op : batch) std::visit([this](auto& o) { Keep(&o); }, op);
      }
    }
    if (!result.status.ok()) result.batch = std::move(batch);
    done(std::move(result));
  }

  absl::StatusOr<StoredRun> GetRun(std::string_view run_id) const override {
    MutexLock lock(&mutex_);
    const auto it = runs_.find(run_id);
    if (it == runs_.end()) return NoSuchRun(run_id);
    return it->second.stored;
  }

  absl::StatusOr<std::vector<StoredRun>> ListRuns(int64_t before_number, int64_t count) const override {
    MutexLock lock(&mutex_);
    std::vector<StoredRun> out;
    for (auto it = by_number_.rbegin(); it != by_number_.rend() && static_cast<int64_t>(out.size()) < count; ++it) {
      if (before_number == 0 || it->first < before_number) out.push_back(runs_.at(it->second).stored);
    }
    return out;
  }

  absl::StatusOr<std::vector<StoredRun>> UnfinishedRuns() const override {
    MutexLock lock(&mutex_);
    std::vector<StoredRun> out;
    for (const auto& [number, id] : by_number_) {
      const StoredRun& run = runs_.at(id).stored;
      if (!run.finished) out.push_back(run);
    }
    return out;
  }

  absl::StatusOr<std::vector<std::string>> ReadEvents(std::string_view run_id, int64_t after, int64_t count,
                                                      int64_t bytes) const override {
    MutexLock lock(&mutex_);
    const auto it = runs_.find(run_id);
    if (it == runs_.end()) return NoSuchRun(run_id);
    std::vector<std::string> out;
    int64_t size = 0;
    const std::vector<std::string>& events = it->second.events;
    for (size_t i = static_cast<size_t>(std::max<int64_t>(after, 0)); i < events.size(); ++i) {
      if (static_cast<int64_t>(out.size()) >= count || (!out.empty() && size >= bytes)) break;
      size += static_cast<int64_t>(events[i].size());
      out.push_back(events[i]);
    }
    return out;
  }

  absl::StatusOr<std::vector<StoredInput>> ReadInputs(std::string_view run_id) const override {
    MutexLock lock(&mutex_);
    const auto it = runs_.find(run_id);
    if (it == runs_.end()) return NoSuchRun(run_id);
    return it->second.inputs;
  }

  absl::StatusOr<StoredRun> FindRequest(std::string_view request_id) const override {
    MutexLock lock(&mutex_);
    const auto it = request_ids_.find(request_id);
    if (it == request_ids_.end()) return NoSuchRequest(request_id);
    return runs_.at(it->second.second).stored;
  }

  absl::StatusOr<std::string> GetGraph(std::string_view revision) const override {
    MutexLock lock(&mutex_);
    const auto it = graphs_.find(revision);
    if (it == graphs_.end()) return NotFound("GRAPH_NOT_FOUND: no graph with revision {}", revision);
    return it->second;
  }

  absl::Status ReadResults(const std::function<absl::Status(const StoredResult&)>& visit) const override {
    std::map<std::tuple<std::string, std::string, int32_t>, StoredResult> results;
    {
      MutexLock lock(&mutex_);
      results = results_;
    }
    for (const auto& [key, result] : results) RETURN_IF_ERROR(visit(result));
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<std::string>> GetMeta(std::string_view key) const override {
    MutexLock lock(&mutex_);
    const auto it = meta_.find(key);
    return it == meta_.end() ? std::optional<std::string>() : it->second;
  }

 private:
  // What the operations tried so far would add.
  struct Trial {
    std::map<std::string, int64_t> created;  // run -> last sequence number
    std::map<std::string, int64_t> last;
    std::map<std::string, bool> finished;
    std::map<std::string, std::string> request_ids;  // -> run
    std::map<std::tuple<std::string, std::string, int32_t>, bool> results;
  };

  absl::Status TryBatch(const std::vector<WriteOp>& batch, std::string* existing_run_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Trial trial;
    for (const WriteOp& op : batch) {
      RETURN_IF_ERROR(std::visit([&](const auto& o) { return Try(o, &trial, existing_run_id); }, op));
      if (!existing_run_id->empty()) return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  absl::Status Try(const CreateRun& op, Trial* trial, std::string* existing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!op.request_id.empty()) {
      if (const auto it = request_ids_.find(op.request_id); it != request_ids_.end()) {
        if (it->second.first != op.request_hash) return RequestIdReused(op.request_id, it->second.second);
        *existing = it->second.second;
        return absl::OkStatus();
      }
      if (!trial->request_ids.emplace(op.request_id, op.run_id).second) {
        return RequestIdReused(op.request_id, trial->request_ids[op.request_id]);
      }
    }
    if (runs_.contains(op.run_id) || !trial->created.emplace(op.run_id, 0).second) return DuplicateRun(op.run_id);
    trial->last[op.run_id] = 0;
    return absl::OkStatus();
  }

  absl::Status TryOpen(const std::string& run_id, Trial* trial) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto it = runs_.find(run_id);
    if (it == runs_.end() && !trial->created.contains(run_id)) return NoSuchRun(run_id);
    if (trial->finished[run_id] || (it != runs_.end() && it->second.stored.finished)) return RunIsFinished(run_id);
    if (it != runs_.end()) trial->last.emplace(run_id, it->second.stored.last_sequence_number);
    return absl::OkStatus();
  }

  absl::Status Try(const AppendEvents& op, Trial* trial, std::string*) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    RETURN_IF_ERROR(TryOpen(op.run_id, trial));
    int64_t& last = trial->last[op.run_id];
    if (op.first_sequence_number != last + 1) return WrongSequence(op.run_id, op.first_sequence_number, last + 1);
    last += static_cast<int64_t>(op.events.size());
    return absl::OkStatus();
  }
  absl::Status Try(const UpdateRun& op, Trial* trial, std::string*) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    RETURN_IF_ERROR(TryOpen(op.run_id, trial));
    if (op.finished) trial->finished[op.run_id] = true;
    return absl::OkStatus();
  }
  absl::Status Try(const RecordInput& op, Trial* trial, std::string*) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    RETURN_IF_ERROR(TryOpen(op.run_id, trial));
    const int64_t last = trial->last[op.run_id];
    if (op.after_sequence_number > last) return InputBeforeItsEvent(op.run_id, op.after_sequence_number, last);
    return absl::OkStatus();
  }
  absl::Status Try(const PutResult& op, Trial* trial, std::string*) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::tuple key(op.arm, op.item, op.replicate);
    return results_.contains(key) || !trial->results.emplace(key, true).second ? DuplicateResult(op) : absl::OkStatus();
  }
  absl::Status Try(const PutMeta&, Trial*, std::string*) { return absl::OkStatus(); }

  void Keep(CreateRun* op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const int64_t number = static_cast<int64_t>(runs_.size()) + 1;
    if (!op->graph_revision.empty()) graphs_.emplace(op->graph_revision, std::move(op->graph));
    if (!op->request_id.empty()) request_ids_[op->request_id] = {op->request_hash, op->run_id};
    by_number_[number] = op->run_id;
    runs_[op->run_id].stored = StoredRun{.number = number,
                                         .run_id = op->run_id,
                                         .request = std::move(op->request),
                                         .graph_revision = op->graph_revision,
                                         .create_unix_ns = op->create_unix_ns,
                                         .last_sequence_number = 0,
                                         .finished = false,
                                         .summary = std::move(op->summary)};
  }
  void Keep(AppendEvents* op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    MemoryRun& run = runs_.at(op->run_id);
    for (std::string& event : op->events) run.events.push_back(std::move(event));
    run.stored.last_sequence_number = static_cast<int64_t>(run.events.size());
  }
  void Keep(UpdateRun* op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    StoredRun& run = runs_.at(op->run_id).stored;
    run.summary = std::move(op->summary);
    run.finished = op->finished;
  }
  void Keep(RecordInput* op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    runs_.at(op->run_id).inputs.push_back({op->after_sequence_number, std::move(op->input)});
  }
  void Keep(PutResult* op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    results_[std::tuple(op->arm, op->item, op->replicate)] = {op->arm, op->item, op->replicate, op->run_id,
                                                              op->payload};
  }
  void Keep(PutMeta* op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { meta_[op->key] = op->value; }

  mutable Mutex mutex_;
  std::map<std::string, MemoryRun, std::less<>> runs_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, std::string> by_number_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string, std::less<>> graphs_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::pair<std::string, std::string>, std::less<>> request_ids_ ABSL_GUARDED_BY(mutex_);
  std::map<std::tuple<std::string, std::string, int32_t>, StoredResult> results_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string, std::less<>> meta_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Store> NewMemoryStore() { return std::make_unique<MemoryStore>(); }

}  // namespace conclave::orchestrator
