// SPDX-License-Identifier: Apache-2.0
// Matchers for absl::Status and absl::StatusOr (Debian's Abseil ships none).
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::testing {

inline const absl::Status& ToStatus(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& ToStatus(const absl::StatusOr<T>& value) {
  return value.status();
}

MATCHER(IsOk, "is OK") {
  *result_listener << ToStatus(arg).ToString();
  return ToStatus(arg).ok();
}

MATCHER_P(StatusIs, code, "has the status code") {
  *result_listener << ToStatus(arg).ToString();
  return ToStatus(arg).code() == code;
}

MATCHER_P2(StatusIs, code, message, "has the status code and message") {
  *result_listener << ToStatus(arg).ToString();
  return ToStatus(arg).code() == code &&
         ::testing::ExplainMatchResult(message, std::string(ToStatus(arg).message()), result_listener);
}

}  // namespace conclave::testing

#define EXPECT_OK(expression) EXPECT_THAT(expression, ::conclave::testing::IsOk())
#define ASSERT_OK(expression) ASSERT_THAT(expression, ::conclave::testing::IsOk())
