// SPDX-License-Identifier: Apache-2.0
#include "engine/comm/in_process.h"

#include <algorithm>
#include <array>

#include "absl/base/thread_annotations.h"
#include "common/check.h"
#include "common/mutex.h"

namespace conclave::engine {
namespace {

// Ranks add up whole cache lines, so that no two write into one.
constexpr int64_t kLineFloats = 16;
constexpr int64_t kPieceFloats = 256;

// What the ranks share: a barrier, and where each one's view lies.
class Group {
 public:
  explicit Group(int32_t size) : size_(size), views_(static_cast<size_t>(size)) {}

  int32_t size() const { return size_; }

  // Waits for all ranks, to whom `view` is then known.
  absl::Status Meet(int32_t rank, const View& view) {
    MutexLock lock(&mutex_);
    views_[static_cast<size_t>(rank)] = view;
    return Wait();
  }
  absl::Status Meet() {
    MutexLock lock(&mutex_);
    return Wait();
  }
  // REQUIRES: all have met, and have not met again.
  float* data(int32_t rank) const ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return views_[static_cast<size_t>(rank)].as<float>();
  }
  const View& view(int32_t rank) const ABSL_NO_THREAD_SAFETY_ANALYSIS { return views_[static_cast<size_t>(rank)]; }

  void Abort(const absl::Status& status) {
    CONCLAVE_CHECK(!status.ok());
    MutexLock lock(&mutex_);
    if (failure_.ok()) failure_ = status;
    changed_.SignalAll();
  }

 private:
  absl::Status Wait() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!failure_.ok()) return failure_;
    const uint64_t turn = turn_;
    if (++arrived_ == size_) {
      arrived_ = 0;
      ++turn_;
      changed_.SignalAll();
      return absl::OkStatus();
    }
    while (turn_ == turn && failure_.ok()) changed_.Wait(&mutex_);
    return turn_ != turn ? absl::OkStatus() : failure_;
  }

  const int32_t size_;
  Mutex mutex_;
  CondVar changed_;
  int32_t arrived_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t turn_ ABSL_GUARDED_BY(mutex_) = 0;  // barriers passed
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<View> views_ ABSL_GUARDED_BY(mutex_);
};

class InProcess final : public Communicator {
 public:
  InProcess(std::shared_ptr<Group> group, int32_t rank) : group_(std::move(group)), rank_(rank) {}

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return group_->size(); }

  // Each rank adds up its share of the elements and writes the sums into the views of all.
  absl::Status AllReduceSum(const View& x) override {
    CONCLAVE_CHECK(x.dtype == DType::kF32 && !x.empty());
    if (absl::Status status = group_->Meet(rank_, x); !status.ok()) return status;
    const int32_t ranks = size();
    for (int32_t r = 0; r < ranks; ++r) CONCLAVE_CHECK(group_->view(r).shape == x.shape);
    const int64_t elements = x.shape.elements(), lines = (elements + kLineFloats - 1) / kLineFloats;
    const int64_t begin = lines * rank_ / ranks * kLineFloats;
    const int64_t end = std::min(lines * (rank_ + 1) / ranks * kLineFloats, elements);
    for (int64_t i = begin; i < end; i += kPieceFloats) {
      std::array<float, kPieceFloats> sum;
      const int64_t count = std::min(kPieceFloats, end - i);
      std::copy_n(group_->data(0) + i, count, sum.begin());
      for (int32_t r = 1; r < ranks; ++r) {
        const float* part = group_->data(r) + i;
        for (int64_t j = 0; j < count; ++j) sum[static_cast<size_t>(j)] += part[j];
      }
      for (int32_t r = 0; r < ranks; ++r) std::copy_n(sum.begin(), count, group_->data(r) + i);
    }
    return group_->Meet();
  }

  void Abort(const absl::Status& status) override { group_->Abort(status); }

 private:
  const std::shared_ptr<Group> group_;
  const int32_t rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeInProcessGroup(int32_t ranks) {
  CONCLAVE_CHECK(ranks >= 1);
  auto group = std::make_shared<Group>(ranks);
  std::vector<std::unique_ptr<Communicator>> members;
  members.reserve(static_cast<size_t>(ranks));
  for (int32_t rank = 0; rank < ranks; ++rank) members.push_back(std::make_unique<InProcess>(group, rank));
  return members;
}

}  // namespace conclave::engine
