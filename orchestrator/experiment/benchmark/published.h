// SPDX-License-Identifier: Apache-2.0
// Items from one line of a published benchmark's JSONL. LoadItems (item.h) is the way in.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/benchmark/item.h"
#include "orchestrator/experiment/benchmark/json_line.h"
#include "orchestrator/experiment/benchmark/line_reader.h"

namespace conclave::benchmark {

// What a reader of lines has at hand.
struct Source {
  LineReader& reader;
  JsonLine& json;
  std::string stem;  // the file's name without its endings, for ids of forms that have none

  absl::StatusOr<std::string> Required(std::string_view field, JsonLine::Numbers numbers = JsonLine::Numbers::kRefuse);
  absl::StatusOr<std::string> Optional(std::string_view field);
  // An array of strings, at most kChoicesMax; empty where the field is absent.
  absl::StatusOr<std::vector<std::string>> Choices(std::string_view field);
};

using ReadItem = absl::StatusOr<Item> (*)(Source&);

// The reader of a published form by its name, or nullptr: arc, humaneval, knights_knaves, math, mmlu, mmlu_pro.
ReadItem PublishedReader(std::string_view format);
// The same, told by the fields of a line.
ReadItem PublishedReaderFor(const JsonLine& json);

}  // namespace conclave::benchmark
