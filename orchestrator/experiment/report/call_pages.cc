// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/call_pages.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/report/pages.h"

namespace conclave::report {
namespace {

using simdjson::dom::object;

std::string TextAt(const object& row, std::string_view key) {
  std::string_view text;
  return row.at_key(key).get_string().get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
}

int64_t IntAt(const object& row, std::string_view key) {
  int64_t value = 0;
  return row.at_key(key).get_int64().get(value) == simdjson::SUCCESS ? value : 0;
}

// Finds where each item's calls lie, ordered by item and then as they were written.
absl::StatusOr<std::vector<CallPlace>> FindCalls(const std::string& path, std::ifstream& in,
                                                 const std::unordered_map<std::string, uint32_t>& items) {
  std::vector<CallPlace> places;
  simdjson::dom::parser parser;
  int64_t offset = 0, number = 0;
  for (std::string line; std::getline(in, line); offset += static_cast<int64_t>(line.size()) + 1) {
    ++number;
    if (line.empty()) continue;
    object row;
    if (parser.parse(line).get_object().get(row) != simdjson::SUCCESS) {
      return DataLoss("{}:{}: is not a JSON object", path, number);
    }
    const auto item = items.find(TextAt(row, "id"));
    if (item != items.end()) places.push_back({item->second, static_cast<uint32_t>(line.size()), offset});
  }
  std::stable_sort(places.begin(), places.end(),
                   [](const CallPlace& a, const CallPlace& b) { return a.item < b.item; });
  return places;
}

// One item's calls as a script's object. Texts that several arms share are kept once.
class ItemCalls {
 public:
  void Add(const object& row, uint32_t arm) {
    if (count_ == kCallsPerItemMax) return void(++left_out_);
    ++count_;
    std::string text = TextAt(row, "text");
    if (const std::string lost = TextAt(row, "lost"); !lost.empty()) text = "[this call was lost: " + lost + "]";
    text = CutText(text, kCallTextMax);
    const auto [it, fresh] = texts_.try_emplace(std::move(text), texts_.size());
    if (fresh) text_list_ += (texts_.size() == 1 ? "" : ",") + Quoted(it->first);
    const std::string answer = TextAt(row, "answer");
    double score = 0;
    const bool scored = row.at_key("score").get_double().get(score) == simdjson::SUCCESS;
    calls_ += fmt::format("{}[{},{},{},{},{},{},{},{}]", calls_.empty() ? "" : ",", arm, IntAt(row, "replicate"),
                          Quoted(TextAt(row, "node")), Quoted(TextAt(row, "member")), IntAt(row, "sample"),
                          answer.empty() ? std::string("null") : Quoted(answer),
                          scored ? fmt::format("{:.4g}", score) : std::string("null"), it->second);
  }

  std::string Script() const {
    return fmt::format("{{\"texts\":[{}],\"calls\":[{}],\"left_out\":{}}}", text_list_, calls_, left_out_);
  }

 private:
  std::unordered_map<std::string, size_t> texts_;
  std::string text_list_, calls_;
  size_t count_ = 0, left_out_ = 0;
};

absl::StatusOr<std::string> ScriptOf(std::span<const CallPlace> places, const std::string& path, std::ifstream& in,
                                     simdjson::dom::parser& parser,
                                     const std::unordered_map<std::string, uint32_t>& arms) {
  ItemCalls calls;
  std::string line;
  for (const CallPlace& place : places) {
    line.resize(place.bytes);
    in.seekg(place.offset);
    in.read(line.data(), place.bytes);
    object row;
    if (!in || parser.parse(line).get_object().get(row) != simdjson::SUCCESS) {
      return DataLoss("{}: changed while it was read; write the report again", path);
    }
    const auto arm = arms.find(TextAt(row, "arm"));
    if (arm != arms.end()) calls.Add(row, arm->second);
  }
  return calls.Script();
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> WriteCallPages(const std::string& transcripts, const std::string& folder,
                                                    const std::unordered_map<std::string, uint32_t>& items,
                                                    const std::unordered_map<std::string, uint32_t>& arms) {
  std::vector<int32_t> page_of(items.size(), -1);
  if (!std::filesystem::exists(transcripts)) return page_of;
  std::ifstream in(transcripts, std::ios::binary);
  if (!in) return NotFound("{}: cannot be read", transcripts);
  ASSIGN_OR_RETURN(const std::vector<CallPlace> places, FindCalls(transcripts, in, items));
  in.clear();
  simdjson::dom::parser parser;
  std::string body;
  int32_t page = 0;
  const auto finish = [&]() -> absl::Status {
    const std::string script = fmt::format("conclave.take(\"calls-{}\",{{{}}});\n", page, body);
    body.clear();
    return WriteFileAtomically(fmt::format("{}/calls-{}.js", folder, page++), script);
  };
  for (size_t begin = 0; begin < places.size();) {
    size_t end = begin;
    while (end < places.size() && places[end].item == places[begin].item) ++end;
    const std::span<const CallPlace> own(places.data() + begin, end - begin);
    ASSIGN_OR_RETURN(const std::string script, ScriptOf(own, transcripts, in, parser, arms));
    page_of[places[begin].item] = page;
    body += fmt::format("{}\"{}\":{}", body.empty() ? "" : ",\n", places[begin].item, script);
    if (body.size() > kCallPageBytes) RETURN_IF_ERROR(finish());
    begin = end;
  }
  if (!body.empty()) RETURN_IF_ERROR(finish());
  return page_of;
}

}  // namespace conclave::report
