// SPDX-License-Identifier: Apache-2.0
// One line of a JSONL file as an object whose fields are asked for by name and type, with errors that name file and
// line.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "orchestrator/experiment/benchmark/line_reader.h"

namespace conclave::benchmark {

class JsonLine {
 public:
  // Parses the reader's present line. Fields stay valid until the next Parse.
  absl::Status Parse(const LineReader& reader);

  bool Has(std::string_view field) const;

  // The string of a field. A number is given as it is written in JSON's shortest form where `numbers` says so.
  enum class Numbers { kRefuse, kAsText };
  absl::StatusOr<std::string_view> Text(const LineReader& reader, std::string_view field,
                                        Numbers numbers = Numbers::kRefuse);
  // As Text, but an absent or null field is nullopt.
  absl::StatusOr<std::optional<std::string_view>> OptionalText(const LineReader& reader, std::string_view field,
                                                               Numbers numbers = Numbers::kRefuse);
  // A whole number in [0, max], or nullopt when absent or null.
  absl::StatusOr<std::optional<uint64_t>> OptionalCount(const LineReader& reader, std::string_view field, uint64_t max);

  const simdjson::dom::object& object() const { return object_; }

 private:
  simdjson::dom::parser parser_;
  simdjson::dom::object object_;
  std::string number_text_;
};

}  // namespace conclave::benchmark
