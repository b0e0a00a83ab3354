// SPDX-License-Identifier: Apache-2.0
// Stop strings across token boundaries: text is let through as soon as it can no longer be the beginning of one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::engine {

inline constexpr size_t kStopMatcherStringsMax = 16;
inline constexpr size_t kStopMatcherStringBytesMax = 256;

// Immutable; shared by the samples of a request.
class StopStrings {
 public:
  // INVALID_ARGUMENT for an empty or too long string, one that is not UTF-8, or too many of them.
  static absl::StatusOr<std::shared_ptr<const StopStrings>> Create(std::vector<std::string> strings);
  const std::vector<std::string>& strings() const { return strings_; }

 private:
  friend class StopMatcher;
  StopStrings() = default;
  std::vector<std::string> strings_;
  // Per string and matched length n: the longest proper suffix of its first n bytes that begins it (Knuth, Morris and
  // Pratt 1977).
  std::vector<std::vector<uint32_t>> fallback_;
};

// One per sample; not thread-safe. The result does not depend on how the text is cut into parts: the stop string that
// ends first counts, of those that end together the longest.
class StopMatcher {
 public:
  explicit StopMatcher(std::shared_ptr<const StopStrings> strings)
      : strings_(std::move(strings)), matched_(strings_->strings().size(), 0) {}

  // Appends to `out` the part of the text so far that is certain to stay. Whole characters in, whole characters out.
  // On a match everything from the stop string on is dropped, and this is the last call. Returns the stop string that
  // matched, or nullptr.
  const std::string* Append(std::string_view text, std::string* out);
  // The text has ended without a match: what was held back is let through.
  void Finish(std::string* out);
  size_t held_bytes() const { return held_.size(); }

 private:
  std::shared_ptr<const StopStrings> strings_;
  std::vector<uint32_t> matched_;  // per string: how many of its first bytes end the text so far
  std::string held_;               // the longest of these
};

}  // namespace conclave::engine
