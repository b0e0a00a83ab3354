// SPDX-License-Identifier: Apache-2.0
#include "engine/comm/in_process.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "common/status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

View ViewOf(std::vector<float>& values) {
  return {.data = reinterpret_cast<std::byte*>(values.data()), .shape = {1, static_cast<int64_t>(values.size())}};
}

// Calls body(communicator) on a thread for each rank.
void OnRanks(const std::vector<std::unique_ptr<Communicator>>& group, const std::function<void(Communicator*)>& body) {
  std::vector<std::thread> threads;
  for (const auto& member : group) threads.emplace_back([&body, &member] { body(member.get()); });
  for (std::thread& thread : threads) thread.join();
}

TEST(InProcessGroup, KnowsRankAndSize) {
  const auto group = MakeInProcessGroup(3);
  ASSERT_EQ(group.size(), 3u);
  for (int32_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(group[static_cast<size_t>(rank)]->rank(), rank);
    EXPECT_EQ(group[static_cast<size_t>(rank)]->size(), 3);
  }
}

// Lengths around a cache line and a piece, of values whose sum depends on its order: bit for bit the sum in the order
// of ranks, in every rank, many times in a row.
TEST(InProcessGroup, SumsInTheOrderOfRanks) {
  for (const int32_t ranks : {1, 2, 3, 4, 7}) {
    const auto group = MakeInProcessGroup(ranks);
    for (const size_t length : {1, 15, 16, 17, 255, 256, 257, 1000, 5000}) {
      std::mt19937 random(static_cast<uint32_t>(ranks * 10000) + static_cast<uint32_t>(length));
      std::vector<std::vector<float>> parts(static_cast<size_t>(ranks), std::vector<float>(length));
      std::vector<float> expected;
      for (size_t i = 0; i < length; ++i) {
        float sum = 0;
        for (size_t r = 0; r < parts.size(); ++r) {
          const float value = std::uniform_real_distribution<float>(-1, 1)(random);
          parts[r][i] = i % 2 == 0 ? value * 1e8f : value;
          sum = r == 0 ? parts[r][i] : sum + parts[r][i];
        }
        expected.push_back(sum);
      }
      constexpr int kRounds = 5;
      OnRanks(group, [&](Communicator* member) {
        for (int round = 0; round < kRounds; ++round) {
          std::vector<float> x = parts[static_cast<size_t>(member->rank())];
          EXPECT_OK(member->AllReduceSum(ViewOf(x)));
          EXPECT_EQ(std::memcmp(x.data(), expected.data(), length * sizeof(float)), 0)
              << ranks << " ranks, " << length << " floats, rank " << member->rank() << ", round " << round;
        }
      });
    }
  }
}

TEST(InProcessGroup, AnAbortReleasesThoseWhoWait) {
  const auto group = MakeInProcessGroup(4);
  OnRanks(group, [](Communicator* member) {
    std::vector<float> x(100, 1.0f);
    EXPECT_OK(member->AllReduceSum(ViewOf(x)));
    EXPECT_EQ(x[99], 4.0f);
    if (member->rank() == 2) return member->Abort(Internal("rank 2: broken"));
    const absl::Status status = member->AllReduceSum(ViewOf(x));
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_EQ(Message(status), "rank 2: broken");
  });
  // Nobody waits any more, whoever calls; the first failure stays.
  group[0]->Abort(Unavailable("later"));
  std::vector<float> x(1);
  for (const auto& member : group) EXPECT_EQ(Message(member->AllReduceSum(ViewOf(x))), "rank 2: broken");
}

}  // namespace
}  // namespace conclave::engine
