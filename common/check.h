// SPDX-License-Identifier: Apache-2.0
// CONCLAVE_CHECK: an invariant of our own code. Always on; prints file:line and the condition, then aborts.
// Anything a file, a message, a user or the machine can cause returns absl::Status instead.
#pragma once

namespace conclave::internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const char* message);
}  // namespace conclave::internal

#define CONCLAVE_CHECK(condition)                    \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::conclave::internal::CheckFailed(__FILE__, __LINE__, #condition, ""))

#define CONCLAVE_CHECK_MSG(condition, message)       \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::conclave::internal::CheckFailed(__FILE__, __LINE__, #condition, message))

// In hot inner loops: on in debug builds only.
#ifdef NDEBUG
#define CONCLAVE_DCHECK(condition) static_cast<void>(0)
#else
#define CONCLAVE_DCHECK(condition) CONCLAVE_CHECK(condition)
#endif
