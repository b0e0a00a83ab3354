// SPDX-License-Identifier: Apache-2.0
// Internal to engine/tokenizer: one compiled PCRE2 pattern with a limit on its work.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave::engine {

struct MatchRange {
  size_t begin, end;
};

// Thread-safe.
class Pcre {
 public:
  enum class Lines : bool { kOne, kMany };  // kMany: ^ and $ match at line ends, as in Ruby

  // INVALID_ARGUMENT for a pattern that does not compile.
  static absl::StatusOr<std::unique_ptr<Pcre>> Compile(std::string_view pattern, Lines lines);
  ~Pcre();

  // Memory of one thread's searches.
  class Scratch;
  struct ScratchDeleter {
    void operator()(Scratch* scratch) const;
  };
  static std::unique_ptr<Scratch, ScratchDeleter> NewScratch();  // null when out of memory

  // The first match at or after `from`; false if there is none. Malformed UTF-8 matches nothing. RESOURCE_EXHAUSTED if
  // it takes more than the limit of backtracking steps.
  absl::StatusOr<bool> Find(std::string_view subject, size_t from, Scratch* scratch, MatchRange* match) const;

 private:
  struct Impl;
  explicit Pcre(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::engine
