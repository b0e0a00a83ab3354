// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/tables.h"

#include <simdjson.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "common/file.h"
#include "common/status.h"

namespace conclave::benchmark {
namespace {

namespace fs = std::filesystem;

// "anatomy_test.csv" -> "anatomy".
std::string Subject(const fs::path& path) {
  std::string name = path.stem().string();
  for (std::string_view ending : {"_test", "_dev", "_val"}) {
    if (name.size() > ending.size() && name.ends_with(ending)) name.erase(name.size() - ending.size());
  }
  return name;
}

// MMLU: question, four choices, and the answer as a letter or, in files with a header, as an index from 0.
absl::StatusOr<std::vector<Item>> MmluItems(const fs::path& path, const std::vector<CsvRow>& rows) {
  std::vector<Item> items;
  const bool header = !rows.empty() && rows[0].fields[0] == "question";
  for (size_t r = header ? 1 : 0; r < rows.size(); ++r) {
    const auto& fields = rows[r].fields;
    const auto error = [&](std::string_view what) {
      return InvalidArgument("{}:{}: {}", path.string(), rows[r].line, what);
    };
    if (fields.size() < 4 || fields.size() > kChoicesMax + 2) {
      return error(fmt::format("{} fields; a question, its choices and the answer are needed", fields.size()));
    }
    Item item;
    item.stratum = Subject(path);
    item.id = fmt::format("{}-{}", path.stem().string(), items.size());
    item.question = fields.front();
    item.choices.assign(fields.begin() + 1, fields.end() - 1);
    const std::string& answer = fields.back();
    const char first = header ? '0' : 'A';
    if (answer.size() != 1 || answer[0] < first || static_cast<size_t>(answer[0] - first) >= item.choices.size()) {
      return error(
          fmt::format("the answer is \"{}\", which names none of the {} choices", answer, item.choices.size()));
    }
    item.answer = std::string(1, static_cast<char>('A' + (answer[0] - first)));
    items.push_back(std::move(item));
  }
  return items;
}

// Rank,Puzzles,..: the task is put in words, for the file has none.
absl::StatusOr<std::vector<Item>> Game24Items(const fs::path& path, const std::vector<CsvRow>& rows) {
  const auto& head = rows[0].fields;
  const auto column = [&](std::string_view name) {
    return static_cast<size_t>(std::find(head.begin(), head.end(), name) - head.begin());
  };
  const size_t puzzles = column("Puzzles");
  const size_t rank = column("Rank");
  std::vector<Item> items;
  for (size_t r = 1; r < rows.size(); ++r) {
    const auto& fields = rows[r].fields;
    if (fields.size() <= std::max(puzzles, rank)) {
      return InvalidArgument("{}:{}: {} fields, fewer than the header has", path.string(), rows[r].line, fields.size());
    }
    Item item;
    item.id = "game24-" + fields[rank];
    item.answer = fields[puzzles];
    item.question = fmt::format(
        "Use the numbers {} and the operations + - * / to obtain 24. Each number is used exactly once; brackets are "
        "allowed. Give one expression.",
        fields[puzzles]);
    items.push_back(std::move(item));
  }
  return items;
}

absl::StatusOr<std::vector<Item>> CsvItems(const fs::path& path, const std::string& text, std::string_view format) {
  ASSIGN_OR_RETURN(const std::vector<CsvRow> rows, ParseCsv(text, path.string()));
  if (rows.empty()) return InvalidArgument("{}: no rows in this file", path.string());
  const auto& head = rows[0].fields;
  const auto names = [&](std::string_view name) { return std::find(head.begin(), head.end(), name) != head.end(); };
  const bool game = names("Puzzles") && names("Rank");
  if (format == "game24" && !game) return InvalidArgument("{}:1: no columns Rank and Puzzles", path.string());
  if (format == "game24" || (format.empty() && game)) return Game24Items(path, rows);
  return MmluItems(path, rows);
}

// {"canary","examples":[{"input","target"}]}.
absl::StatusOr<std::vector<Item>> BbhItems(const fs::path& path, const std::string& text) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (const auto error = parser.parse(text).get(root); error != simdjson::SUCCESS) {
    return InvalidArgument("{}: not JSON ({})", path.string(), simdjson::error_message(error));
  }
  simdjson::dom::array examples;
  if (root["examples"].get(examples) != simdjson::SUCCESS) {
    return InvalidArgument("{}: no array \"examples\", which a file of BIG-Bench Hard has", path.string());
  }
  std::vector<Item> items;
  for (simdjson::dom::element example : examples) {
    std::string_view input;
    std::string_view target;
    if (example["input"].get(input) != simdjson::SUCCESS || example["target"].get(target) != simdjson::SUCCESS ||
        input.empty() || target.empty()) {
      return InvalidArgument("{}: example {} has no texts \"input\" and \"target\"", path.string(), items.size());
    }
    Item item;
    item.stratum = path.stem().string();
    item.id = fmt::format("bbh-{}-{}", item.stratum, items.size());
    item.question = std::string(input);
    item.answer = std::string(target);
    items.push_back(std::move(item));
  }
  return items;
}

absl::StatusOr<std::vector<Item>> FileItems(const fs::path& path, std::string_view format) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path.string(), kTableBytesMax));
  const bool json = path.extension() == ".json";
  if (format.empty() ? json : format == "bbh") return BbhItems(path, text);
  return CsvItems(path, text, format);
}

}  // namespace

absl::StatusOr<std::vector<CsvRow>> ParseCsv(std::string_view text, std::string_view name) {
  std::vector<CsvRow> rows;
  size_t line = 1;
  size_t i = 0;
  while (i < text.size()) {
    CsvRow row;
    row.line = line;
    for (bool more = true; more;) {
      std::string field;
      if (i < text.size() && text[i] == '"') {
        const size_t opened = line;
        for (++i;; ++i) {
          if (i >= text.size()) return InvalidArgument("{}:{}: a quote opens and never closes", name, opened);
          if (text[i] == '\n') ++line;
          if (text[i] != '"') {
            field += text[i];
          } else if (i + 1 < text.size() && text[i + 1] == '"') {
            field += text[i++];
          } else {
            ++i;
            break;
          }
        }
        if (i < text.size() && text[i] != ',' && text[i] != '\n' && text[i] != '\r') {
          return InvalidArgument("{}:{}: '{}' behind a closing quote; a comma is needed", name, line, text[i]);
        }
      } else {
        while (i < text.size() && text[i] != ',' && text[i] != '\n' && text[i] != '\r') field += text[i++];
      }
      row.fields.push_back(std::move(field));
      more = i < text.size() && text[i] == ',';
      if (more) ++i;
    }
    while (i < text.size() && text[i] == '\r') ++i;
    if (i < text.size() && text[i] == '\n') ++i;
    ++line;
    const bool blank = row.fields.size() == 1 && row.fields[0].empty();
    if (!blank) rows.push_back(std::move(row));
  }
  return rows;
}

bool IsTable(const std::string& path) {
  std::error_code error;
  const std::string ending = fs::path(path).extension().string();
  return fs::is_directory(path, error) || ending == ".csv" || ending == ".json";
}

absl::StatusOr<std::vector<Item>> LoadTables(const std::string& path, std::string_view format) {
  if (!format.empty() && format != "mmlu" && format != "game24" && format != "bbh") {
    return InvalidArgument("{}: format \"{}\" is not one of tables; mmlu, game24 and bbh are", path, format);
  }
  std::error_code error;
  if (!fs::is_directory(path, error)) return FileItems(path, format);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    const std::string ending = entry.path().extension().string();
    if (ending == ".csv" || ending == ".json") files.push_back(entry.path());
  }
  if (error) return InvalidArgument("{}: cannot be listed: {}", path, error.message());
  if (files.empty()) return InvalidArgument("{}: no .csv or .json files in this directory", path);
  if (files.size() > kTableFilesMax) {
    return ResourceExhausted("{}: {} files; at most {} are read", path, files.size(), kTableFilesMax);
  }
  std::sort(files.begin(), files.end());
  std::vector<Item> items;
  for (const fs::path& file : files) {
    ASSIGN_OR_RETURN(std::vector<Item> of_file, FileItems(file, format));
    std::move(of_file.begin(), of_file.end(), std::back_inserter(items));
  }
  return items;
}

}  // namespace conclave::benchmark
