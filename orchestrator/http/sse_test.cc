// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/sse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/testing/status_matchers.h"

namespace conclave::http {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;

std::vector<std::string> Read(std::string_view text, size_t piece) {
  std::vector<std::string> events;
  SseReader reader([&events](std::string_view data) { events.emplace_back(data); });
  for (size_t at = 0; at < text.size(); at += piece) EXPECT_OK(reader.Push(text.substr(at, piece)));
  return events;
}

TEST(SseReader, ReadsDataHoweverThePiecesFall) {
  // After the examples of the standard: joined lines, comments, fields of other names, each way to end a line, an
  // event without data, one without its blank line.
  constexpr std::string_view kText =
      "data: first\n\n: a comment\nevent: x\nid: 1\ndata:second\r\ndata:  line\r\n\r\ndata\n\ndata:\r\rdatum: no\n\n\n"
      "data: {\"a\": \"b:c\"}\n\ndata: never ended\n";
  for (size_t piece = 1; piece < kText.size() + 1; ++piece) {
    EXPECT_THAT(Read(kText, piece), ElementsAre("first", "second\n line", "", "", "{\"a\": \"b:c\"}")) << piece;
  }
}

TEST(SseReader, LimitsHoldAtTheLimitAndNotAboveIt) {
  SseReader whole([](std::string_view) {});
  EXPECT_OK(whole.Push("data:" + std::string(kSseEventBytesMax - 5, 'x') + "\n\n"));
  SseReader line([](std::string_view) {});
  EXPECT_THAT(line.Push("data:" + std::string(kSseEventBytesMax - 4, 'x')),
              StatusIs(absl::StatusCode::kResourceExhausted));
  SseReader lines([](std::string_view) {});
  absl::Status status;
  for (int i = 0; i < 3 && status.ok(); ++i)
    status = lines.Push("data:" + std::string(kSseEventBytesMax / 2, 'x') + "\n");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace conclave::http
