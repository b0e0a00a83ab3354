// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/json_line.h"

#include "common/status.h"

namespace conclave::benchmark {

static_assert(LineReader::kPadding >= simdjson::SIMDJSON_PADDING);

absl::Status JsonLine::Parse(const LineReader& reader) {
  const std::string_view line = reader.line();
  simdjson::dom::element root;
  const simdjson::error_code error = parser_.parse(line.data(), line.size(), /*realloc_if_needed=*/false).get(root);
  if (error != simdjson::SUCCESS) {
    return reader.Error(fmt::format("not JSON ({}); one object per line is expected", simdjson::error_message(error)));
  }
  if (root.get(object_) != simdjson::SUCCESS) return reader.Error("not a JSON object; one object per line is expected");
  return absl::OkStatus();
}

bool JsonLine::Has(std::string_view field) const { return object_.at_key(field).error() == simdjson::SUCCESS; }

absl::StatusOr<std::optional<std::string_view>> JsonLine::OptionalText(const LineReader& reader, std::string_view field,
                                                                       Numbers numbers) {
  simdjson::dom::element value;
  if (object_.at_key(field).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  std::string_view text;
  if (value.get(text) == simdjson::SUCCESS) return text;
  if (numbers == Numbers::kAsText && value.is_number()) {
    number_text_ = simdjson::minify(value);
    return number_text_;
  }
  return reader.Error(fmt::format("field \"{}\" must be a string", field));
}

absl::StatusOr<std::string_view> JsonLine::Text(const LineReader& reader, std::string_view field, Numbers numbers) {
  ASSIGN_OR_RETURN(const std::optional<std::string_view> text, OptionalText(reader, field, numbers));
  if (!text) return reader.Error(fmt::format("field \"{}\" is missing", field));
  return *text;
}

absl::StatusOr<std::optional<uint64_t>> JsonLine::OptionalCount(const LineReader& reader, std::string_view field,
                                                                uint64_t max) {
  simdjson::dom::element value;
  if (object_.at_key(field).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  uint64_t count = 0;
  if (value.get(count) != simdjson::SUCCESS || count > max) {
    return reader.Error(fmt::format("field \"{}\" must be a whole number from 0 to {}", field, max));
  }
  return count;
}

}  // namespace conclave::benchmark
