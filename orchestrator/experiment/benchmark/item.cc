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
#include "orchestrator/experiment/benchmark/published.h"
#include "orchestrator/experiment/benchmark/tables.h"

namespace conclave::benchmark {
namespace {

using Numbers = JsonLine::Numbers;

constexpr std::array<std::string_view, 11> kFormats = {"arc",       "bbh",      "game24",         "gsm8k",
                                                       "humaneval", "items",    "knights_knaves", "math",
                                                       "mmlu",      "mmlu_pro", "recorded_items"};
constexpr std::array<std::string_view, 6> kFields = {"id", "question", "answer", "choices", "cluster", "stratum"};

absl::StatusOr<Item> ReadOwn(Source& source) {
  for (const auto& [key, value] : source.json.object()) {
    bool known = false;
    for (std::string_view field : kFields) known = known || field == key;
    if (!known) {
      return source.reader.Error(fmt::format("unknown field \"{}\"; known: {}", key, fmt::join(kFields, ", ")));
    }
  }
  Item item;
  ASSIGN_OR_RETURN(item.id, source.Required("id", Numbers::kAsText));
  ASSIGN_OR_RETURN(item.question, source.Required("question", Numbers::kRefuse));
  ASSIGN_OR_RETURN(item.answer, source.Required("answer", Numbers::kAsText));
  ASSIGN_OR_RETURN(item.choices, source.Choices("choices"));
  ASSIGN_OR_RETURN(item.cluster, source.Optional("cluster"));
  ASSIGN_OR_RETURN(item.stratum, source.Optional("stratum"));
  return item;
}

absl::StatusOr<Item> ReadGsm8k(Source& source) {
  Item item;
  item.id = fmt::format("gsm8k-main-{}-#{}", source.stem, source.reader.line_number() - 1);
  ASSIGN_OR_RETURN(item.question, source.Required("question", Numbers::kRefuse));
  ASSIGN_OR_RETURN(item.solution, source.Required("answer", Numbers::kRefuse));
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
  ASSIGN_OR_RETURN(item.id, source.Required("id", Numbers::kAsText));
  ASSIGN_OR_RETURN(item.question, source.Required("question", Numbers::kRefuse));
  ASSIGN_OR_RETURN(item.answer, source.Required("gold", Numbers::kAsText));
  return item;
}

absl::StatusOr<ReadItem> ReaderOf(std::string_view format) {
  if (format == "gsm8k") return &ReadGsm8k;
  if (format == "items") return &ReadOwn;
  if (format == "recorded_items") return &ReadRecorded;
  if (const ReadItem read = PublishedReader(format)) return read;
  return InvalidArgument("unknown items format \"{}\"; known: {}", format, fmt::join(kFormats, ", "));
}

absl::StatusOr<ReadItem> ReaderOfFirstLine(const LineReader& reader, const JsonLine& json) {
  if (json.Has("id") && json.Has("gold")) return &ReadRecorded;
  if (const ReadItem read = PublishedReaderFor(json)) return read;
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

bool InSplit(const Item& item, const LoadOptions& options) {
  return !options.split || PublishedSplitOf(item.question) == *options.split;
}

absl::StatusOr<std::vector<Item>> Checked(const std::string& path, std::vector<Item> items) {
  if (items.empty()) return InvalidArgument("{}: no items in this file", path);
  if (items.size() > kItemsMax) return ResourceExhausted("{}: more than {} items; set a limit", path, kItemsMax);
  std::unordered_map<std::string_view, size_t> seen;
  for (size_t k = 0; k < items.size(); ++k) {
    if (!seen.try_emplace(items[k].id, k).second) return InvalidArgument("{}: id \"{}\" twice", path, items[k].id);
  }
  return items;
}

}  // namespace

std::span<const std::string_view> ItemFormats() { return kFormats; }

absl::StatusOr<std::vector<Item>> LoadItems(const std::string& path, const LoadOptions& options) {
  const bool table_format = options.format == "bbh" || options.format == "game24";
  if (table_format || IsTable(path)) {
    ASSIGN_OR_RETURN(std::vector<Item> items, LoadTables(path, options.format));
    std::erase_if(items, [&](const Item& item) { return !InSplit(item, options); });
    if (options.limit > 0 && items.size() > options.limit) items.resize(options.limit);
    return Checked(path, std::move(items));
  }
  ReadItem read = nullptr;
  if (!options.format.empty()) {
    ASSIGN_OR_RETURN(read, ReaderOf(options.format));
  }
  ASSIGN_OR_RETURN(LineReader reader, LineReader::Open(path));
  JsonLine json;
  Source source{reader, json, Stem(path)};
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
    if (!InSplit(item, options)) continue;
    if (items.size() == kItemsMax) {
      return ResourceExhausted("{}: more than {} items; set a limit", path, kItemsMax);
    }
    items.push_back(std::move(item));
  }
  if (items.empty()) return InvalidArgument("{}: no items in this file", path);
  return items;
}

}  // namespace conclave::benchmark
