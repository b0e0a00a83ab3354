// SPDX-License-Identifier: Apache-2.0
// A step's bracket: plan and upload, hold calls back or enqueue them, replay as a graph, synchronise.
#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/status.h"
#include "engine/ops/cuda/cuda_backend.h"
#include "engine/ops/host_ops.h"

namespace conclave::engine::cuda {
namespace {

// Larger steps keep the device busy long enough that starting kernels one by one costs nothing.
constexpr int32_t kGraphTokensMax = 128;
constexpr size_t kGraphsMax = 64;

}  // namespace

void CudaOps::Note(const absl::Status& status) {
  if (fault_.ok()) fault_ = status;
}

void CudaOps::NoteLast(std::string_view doing) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) Note(ToStatus(error, doing));
}

const AttentionPlan& CudaOps::BeginStep(const StepBatch& batch) {
  CheckBatch(batch, limits_);
  for (size_t s = 0; s < batch.kv_len.size(); ++s) {
    for (int32_t t = batch.q_indptr[s]; t < batch.q_indptr[s + 1]; ++t) {
      CONCLAVE_CHECK(batch.positions[t] >= 0 && batch.positions[t] < batch.kv_len[s] &&
                     batch.positions[t] / layout_.page_tokens < batch.page_indptr[s + 1] - batch.page_indptr[s]);
    }
  }
  PlanStep(batch, plan_shape_, &step_);
  CONCLAVE_CHECK(step_.offsets.words <= step_words_max_);
  // A step that was not ended may still be reading the staged block.
  if (step_open_ && fault_.ok()) Note(ToStatus(cudaStreamSynchronize(stream_.stream), "waiting for a step"));
  auto* staged = reinterpret_cast<int32_t*>(staged_step_.data());
  WriteStep(batch, step_, staged);
  if (fault_.ok()) {
    Note(ToStatus(cudaMemcpyAsync(step_words_, staged, static_cast<size_t>(step_.offsets.words) * sizeof(int32_t),
                                  cudaMemcpyHostToDevice, stream_.stream),
                  "uploading a step"));
  }
  in_step_ = step_open_ = recordable_ = true;
  records_.clear();
  held_ = 0;
  expected_ = nullptr;
  replaying_ = false;
  const auto it =
      std::find_if(recorded_.begin(), recorded_.end(), [this](const Recorded& r) { return r.key == step_.key; });
  if (it != recorded_.end()) {
    recorded_.splice(recorded_.begin(), recorded_, it);
    if (it->graph != nullptr && fault_.ok()) expected_ = &*it;
  }
  BeginIssue();
  return plan_;
}

void CudaOps::Do(const OpRecord& record) {
  if (expected_ != nullptr) {
    if (held_ < expected_->records.size() && expected_->records[held_] == record) {
      // What follows an embedding is made of it, so that a graph begun in vain does no harm: it is all done again.
      if (held_++ == 0 && record.kind == OpKind::kEmbed) StartReplay();
      return;
    }
    Abandon();
  }
  if (in_step_) {
    if (recordable_ && step_.key.tokens <= kGraphTokensMax) records_.push_back(record);
  } else {
    BeginIssue();
  }
  Issue(record);
}

void CudaOps::StartReplay() {
  Note(ToStatus(cudaGraphLaunch(expected_->graph, stream_.stream), "replaying a step"));
  replaying_ = true;
}

void CudaOps::Abandon() {
  if (expected_ == nullptr) return;
  const Recorded* expected = expected_;
  expected_ = nullptr;
  for (size_t i = 0; i < held_; ++i) {
    records_.push_back(expected->records[i]);
    Issue(expected->records[i]);
  }
  held_ = 0;
}

absl::Status CudaOps::Capture(Recorded* recorded) {
  RETURN_IF_ERROR(
      ToStatus(cudaStreamBeginCapture(stream_.stream, cudaStreamCaptureModeThreadLocal), "recording a step"));
  BeginIssue();
  IssueAll(recorded->records);
  cudaGraph_t graph = nullptr;
  const absl::Status ended = ToStatus(cudaStreamEndCapture(stream_.stream, &graph), "recording a step");
  if (ended.ok()) {
    // Without room for the graph its steps go on being enqueued call by call.
    if (cudaGraphInstantiate(&recorded->graph, graph, 0) != cudaSuccess) recorded->graph = nullptr;
    cudaGetLastError();
  }
  if (graph != nullptr) cudaGraphDestroy(graph);
  return ended;
}

// After a step that was enqueued call by call and succeeded: if the same calls came before, their graph is made.
void CudaOps::RecordStep() {
  if (!recordable_ || records_.empty()) return;
  if (!recorded_.empty() && recorded_.front().key == step_.key) {
    Recorded& recorded = recorded_.front();
    if (recorded.graph == nullptr && recorded.records == records_) return Note(Capture(&recorded));
    if (recorded.records != records_) {
      if (recorded.graph != nullptr) cudaGraphExecDestroy(recorded.graph);
      recorded.graph = nullptr;
      recorded.records = records_;
    }
    return;
  }
  if (recorded_.size() >= kGraphsMax) {
    if (recorded_.back().graph != nullptr) cudaGraphExecDestroy(recorded_.back().graph);
    recorded_.pop_back();
  }
  recorded_.push_front({step_.key, records_, nullptr});
}

absl::Status CudaOps::EndStep(const View& logits, std::span<float> host) {
  CONCLAVE_CHECK(static_cast<size_t>(logits.shape.elements()) == host.size() || host.empty());
  bool replayed = false;
  if (expected_ != nullptr && held_ == expected_->records.size()) {
    replayed = true;
    if (!replaying_) StartReplay();
    expected_ = nullptr;
  }
  Abandon();
  in_step_ = false;
  RETURN_IF_ERROR(fault_);
  const auto bytes = static_cast<int64_t>(host.size_bytes());
  std::byte* const to = reinterpret_cast<std::byte*>(host.data());
  const bool pinned = std::ranges::any_of(
      results_, [to](const PinnedMemory& memory) { return to >= memory.data() && to < memory.data() + memory.size(); });
  if (bytes > 0 && !pinned) RETURN_IF_ERROR(staged_logits_.Reserve(bytes));
  std::byte* const staged = pinned ? to : staged_logits_.data();
  if (bytes > 0) {
    Note(ToStatus(
        cudaMemcpyAsync(staged, logits.data, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_.stream),
        "reading logits"));
  }
  Note(ToStatus(cudaStreamSynchronize(stream_.stream), "running a step"));
  step_open_ = false;
  if (fault_.ok() && bytes > 0 && !pinned) std::memcpy(host.data(), staged, static_cast<size_t>(bytes));
  if (fault_.ok() && !replayed) RecordStep();
  return fault_;
}

absl::StatusOr<double> CudaOps::ReplaySeconds(int repeats) {
  CONCLAVE_CHECK(!in_step_ && repeats > 0);
  RETURN_IF_ERROR(fault_);
  if (recorded_.empty() || recorded_.front().graph == nullptr || !(recorded_.front().key == step_.key)) {
    return NotFound("the last step was not one that is replayed");
  }
  cudaEvent_t begin = nullptr, end = nullptr;
  RETURN_IF_ERROR(ToStatus(cudaEventCreate(&begin), "timing a step"));
  RETURN_IF_ERROR(ToStatus(cudaEventCreate(&end), "timing a step"));
  Note(ToStatus(cudaEventRecord(begin, stream_.stream), "timing a step"));
  for (int i = 0; i < repeats; ++i) {
    Note(ToStatus(cudaGraphLaunch(recorded_.front().graph, stream_.stream), "replaying a step"));
  }
  Note(ToStatus(cudaEventRecord(end, stream_.stream), "timing a step"));
  Note(ToStatus(cudaStreamSynchronize(stream_.stream), "running a step"));
  float milliseconds = 0;
  if (fault_.ok()) Note(ToStatus(cudaEventElapsedTime(&milliseconds, begin, end), "timing a step"));
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  RETURN_IF_ERROR(fault_);
  return 1e-3 * milliseconds / repeats;
}

absl::Status CudaOps::Download(const View& from, std::span<std::byte> host) {
  CONCLAVE_CHECK(static_cast<int64_t>(host.size()) == from.shape.elements() * Traits(from.dtype).block_bytes);
  Abandon();
  RETURN_IF_ERROR(fault_);
  Note(ToStatus(cudaStreamSynchronize(stream_.stream), "running a step"));
  if (fault_.ok() && !host.empty()) {
    Note(ToStatus(cudaMemcpy(host.data(), from.data, host.size(), cudaMemcpyDeviceToHost), "reading a buffer"));
  }
  return fault_;
}

}  // namespace conclave::engine::cuda
