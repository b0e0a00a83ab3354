// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/item.h"

#include <array>
#include <filesystem>
#include <optional>
#include <unordered_map>
#include <utility>

#include <fmt/ranges.h>

#include "common/status.h"
#include "orchestrator/experiment/benchmark/json_line.h"
#include "orchestrator/experiment/benchmark/line_reader.h"

namespace conclave::benchmark {
namespace {

using Numbers = JsonLine::Numbers;

constexpr std::array<std::string_view, 3> kFormats = {"gsm8k", "items", "recorded_items"};
constexpr std::array<std::string_view, 6> kFields = {"id", "question", "answer", "choices", "cluster", "stratum"};

// What all forms share while a file is read.
struct Source {
  LineReader& reader;
  JsonLine& json;
  std::string id_prefix;  // for published forms without ids
};

absl::StatusOr<std::string> Required(Source& source, std::string_view field, Numbers numbers) {
  ASSIGN_OR_RETURN(const std::string_view text, source.json.Text(source.reader, field, numbers));
  if (text.empty()) return source.reader.Error(fmt::format("field \"{}\" is empty", field));
  return std::string(text);
}

absl::StatusOr<std::string> Optional(Source& source, std::string_view field) {
  ASSIGN_OR_RETURN(const auto text, source.json.OptionalText(source.reader, field, Numbers::kAsText));
  return std::string(text.value_or(""));
}

absl::StatusOr<std::vector<std::string>> Choices(Source& source) {
  std::vector<std::string> choices;
  simdjson::dom::element value;
  if (source.json.object().at_key("choices").get(value) != simdjson::SUCCESS) return choices;
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS)
    return source.reader.Error("field \"choices\" must be an array of strings");
  for (simdjson::dom::element element : array) {
    std::string_view text;
    if (element.get(text) != simdjson::SUCCESS) {
      return source.reader.Error("field \"choices\" must be an array of strings");
    }
    if (choices.size() == kChoicesMax) {
      return source.reader.Error(fmt::format("more than {} choices; options are lettered A to Z", kChoicesMax));
    }
    choices.emplace_back(text);
  }
  return choices;
}

absl::StatusOr<Item> ReadOwn(Source& source) {
  for (const auto& [key, value] : source.json.object()) {
    bool known = false;
    for (std::string_view field : kFields) known = known || field == key;
    if (!known) {
      return source.reader.Error(fmt::format("unknown field \"{}\"; known: {}", key, fmt::join(kFields, ", ")));
    }
  }
  Item item;
  ASSIGN_OR_RETURN(item.id, Required(source, "id", Numbers::kAsText));
  ASSIGN_OR_RETURN(item.question, Required(source, "question", Numbers::kRefuse));
  ASSIGN_OR_RETURN(item.answer, Required(source, "answer", Numbers::kAsText));
  ASSIGN_OR_RETURN(item.choices, Choices(source));
  ASSIGN_OR_RETURN(item.cluster, Optional(source, "cluster"));
  ASSIGN_OR_RETURN(item.stratum, Optional(source, "stratum"));
  return item;
}

absl::StatusOr<Item> ReadGsm8k(Source& source) {
  Item item;
  item.id = fmt::format("{}{}", source.id_prefix, source.reader.line_number() - 1);
  ASSIGN_OR_RETURN(item.question, Required(source, "question", Numbers::kRefuse));
  ASSIGN_OR_RETURN(item.solution, Required(source, "answer", Numbers::kRefuse));
  const size_t hashes = item.solution.rfind("####");
  if (hashes == std::string::npos) return source.reader.Error("field \"answer\" has no \"#### value\" at its end");
  const std::string_view rest = std::string_view(item.solution).substr(hashes + 4);
  const size_t first = rest.find_first_not_of(" \t\n\r");
  if (first == std::string_view::npos) return source.reader.Error("field \"answer\" has no value after \"####\"");
  item.answer = std::string(rest.substr(first, rest.find_last_not_of(" \t\n\r") - first + 1));
  return item;
}

absl::StatusOr<Item> ReadRecorded(Source& source) {
  Item item;
  ASSIGN_OR_RETURN(item.id, Required(source, "id", Numbers::kAsText));
  ASSIGN_OR_RETURN(item.question, Required(source, "question", Numbers::kRefuse));
  ASSIGN_OR_RETURN(item.answer, Required(source, "gold", Numbers::kAsText));
  return item;
}

using ReadItem = absl::StatusOr<Item> (*)(Source&);

absl::StatusOr<ReadItem> ReaderOf(std::string_view format) {
  if (format == "gsm8k") return &ReadGsm8k;
  if (format == "items") return &ReadOwn;
  if (format == "recorded_items") return &ReadRecorded;
  return InvalidArgument("unknown items format \"{}\"; known: {}", format, fmt::join(kFormats, ", "));
}

absl::StatusOr<ReadItem> ReaderOfFirstLine(const LineReader& reader, const JsonLine& json) {
  if (json.Has("id") && json.Has("gold")) return &ReadRecorded;
  if (json.Has("id")) return &ReadOwn;
  if (json.Has("question") && json.Has("answer")) return &ReadGsm8k;
  return reader.Error(
      fmt::format("cannot tell the items format from these fields; name one of: {}", fmt::join(kFormats, ", ")));
}

// "test.jsonl.gz" -> "test".
std::string Stem(const std::string& path) {
  std::string name = std::filesystem::path(path).filename().string();
  for (std::string_view ending : {".gz", ".jsonl", ".json"}) {
    if (name.size() > ending.size() && name.ends_with(ending)) name.erase(name.size() - ending.size());
  }
  return name;
}

}  // namespace

std::span<const std::string_view> ItemFormats() { return kFormats; }

absl::StatusOr<std::vector<Item>> LoadItems(const std::string& path, const LoadOptions& options) {
  ReadItem read = nullptr;
  if (!options.format.empty()) {
    ASSIGN_OR_RETURN(read, ReaderOf(options.format));
  }
  ASSIGN_OR_RETURN(LineReader reader, LineReader::Open(path));
  JsonLine json;
  Source source{reader, json, fmt::format("gsm8k-main-{}-#", Stem(path))};
  std::vector<Item> items;
  std::unordered_map<std::string, size_t> line_of_id;
  while (options.limit == 0 || items.size() < options.limit) {
    ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) break;
    RETURN_IF_ERROR(json.Parse(reader));
    if (read == nullptr) {
      ASSIGN_OR_RETURN(read, ReaderOfFirstLine(reader, json));
    }
    ASSIGN_OR_RETURN(Item item, read(source));
    const auto [seen, added] = line_of_id.try_emplace(item.id, reader.line_number());
    if (!added) return reader.Error(fmt::format("id \"{}\" was used on line {}", item.id, seen->second));
    if (items.size() == kItemsMax) {
      return ResourceExhausted("{}: more than {} items; set a limit", path, kItemsMax);
    }
    items.push_back(std::move(item));
  }
  if (items.empty()) return InvalidArgument("{}: no items in this file", path);
  return items;
}

}  // namespace conclave::benchmark
