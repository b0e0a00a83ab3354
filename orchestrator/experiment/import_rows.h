// SPDX-License-Identifier: Apache-2.0
// What the importers share: reading loose JSON without guessing, and collecting rows with the questions and texts that
// belong to them.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/import.h"

namespace conclave::experiment {

// A member of an object, null where there is none.
const nlohmann::ordered_json& At(const nlohmann::ordered_json& object, const char* key);

// Strings as they are, numbers and booleans as JSON writes them; "" for anything else, whose depth nobody bounds.
std::string Text(const nlohmann::ordered_json& value);

// 0 or 1, however it is written; partial credit is an error that begins with `what`.
absl::StatusOr<bool> ZeroOrOne(const nlohmann::ordered_json& value, std::string_view what);

// Collects rows with what belongs to them; items once each.
class ImportRows {
 public:
  // A null question is not known; an empty text makes no transcript.
  void Add(const Outcome& row, const nlohmann::ordered_json& question, const std::string& text);
  Imported& imported() { return imported_; }

 private:
  Imported imported_;
  std::set<std::string> items_;
};

}  // namespace conclave::experiment
