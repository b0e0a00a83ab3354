// SPDX-License-Identifier: Apache-2.0
// Documents without end: a document is a pure function of the options and its number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zoo/data/document.h"
#include "zoo/data/problems.h"

namespace conclave::zoo {

struct WriterOptions {
  std::vector<const benchmark::Family*> families;  // at least one
  std::vector<Part> parts;                         // empty: all, in the shares of kShares (writer.cc)
  uint64_t seed = 0;
  benchmark::Split split = benchmark::Split::kTrain;
  int difficulty_low = 1, difficulty_high = 10;
  Checks checks = Checks::kResults;
};

class Writer {
 public:
  // INVALID_ARGUMENT for options out of range.
  static absl::StatusOr<Writer> Create(WriterOptions options, Prompts prompts);

  // Document number `index` about a fresh question of the split, with drafts made by slips. RESOURCE_EXHAUSTED when
  // the family has hardly a question in the split at this difficulty.
  absl::StatusOr<Document> Make(uint64_t index) const;

  // The same about given drafts of one problem: what models wrote. `index` seeds the choices. Nothing for a part that
  // sees no draft. Drafts that a part cannot speak of (of a right answer by a wrong way only the answer can be judged)
  // are left out; nothing where none remains.
  absl::StatusOr<std::optional<Document>> MakeOf(Part part, const Case& c, const std::vector<std::string>& texts,
                                                 uint64_t index) const;

 private:
  Writer(WriterOptions options, Prompts prompts) : options_(std::move(options)), prompts_(std::move(prompts)) {}
  absl::StatusOr<Document> Fill(Part part, const Case& c, std::vector<Draft> drafts, benchmark::Dice& dice) const;

  WriterOptions options_;
  Prompts prompts_;
};

}  // namespace conclave::zoo
