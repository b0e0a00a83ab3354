// SPDX-License-Identifier: Apache-2.0
// Reference data that lives beside the checkout (../shared), not in it. Tests that need it skip loudly without it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace conclave::testing {

// The path of ../shared/<relative>, or "" where this clone has none. CONCLAVE_SHARED names another place, for programs
// that were copied to a machine without the checkout (deploy/gpu_check).
inline std::string SharedPath(const std::string& relative) {
  const char* copied = std::getenv("CONCLAVE_SHARED");  // NOLINT(concurrency-mt-unsafe)
  const std::filesystem::path shared =
      copied != nullptr ? std::filesystem::path(copied) : std::filesystem::path(CONCLAVE_SOURCE_DIR) / ".." / "shared";
  const std::filesystem::path path = shared / relative;
  return std::filesystem::exists(path) ? path.lexically_normal().string() : std::string();
}

// A cached model file under ~/.cache/conclave (see deploy/demo), or "".
inline std::string CachedModelPath(const std::string& name) {
  const char* home = std::getenv("HOME");  // NOLINT(concurrency-mt-unsafe)
  if (home == nullptr) return "";
  const std::filesystem::path path = std::filesystem::path(home) / ".cache" / "conclave" / name;
  return std::filesystem::exists(path) ? path.string() : std::string();
}

}  // namespace conclave::testing

// SKIP_WITHOUT_SHARED(path, "data/recorded/gsm_items.jsonl"): defines `path`, or skips the test and says what is
// missing.
#define SKIP_WITHOUT_SHARED(path, relative)                           \
  const std::string path = ::conclave::testing::SharedPath(relative); \
  if (path.empty()) GTEST_SKIP() << "needs ../shared/" << (relative) << ", which this clone does not have"
