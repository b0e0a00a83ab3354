// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/pages.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/line_reader.h"
#include "orchestrator/experiment/report/call_pages.h"
#include "orchestrator/experiment/votes.h"

namespace conclave::report {
namespace {

using experiment::Outcome;
using experiment::OutcomeKind;

// In the order of grade::Outcome.
constexpr std::array<char, experiment::kOutcomeKinds> kCodes = {'c', 'w', 'n', 't', 'e', 'f'};
constexpr char kMissing = '.';

char CodeOf(OutcomeKind kind) { return kCodes[static_cast<size_t>(kind)]; }

// Numbers names in the order they come.
class Names {
 public:
  uint32_t Number(const std::string& name) {
    const auto [it, fresh] = index_.try_emplace(name, static_cast<uint32_t>(names_.size()));
    if (fresh) names_.push_back(name);
    return it->second;
  }
  const std::vector<std::string>& names() const { return names_; }
  const std::unordered_map<std::string, uint32_t>& index() const { return index_; }

 private:
  std::unordered_map<std::string, uint32_t> index_;
  std::vector<std::string> names_;
};

std::string QuotedList(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ",") + Quoted(name);
  return "[" + out + "]";
}

// Calls `visit` for each object of a JSONL file; nothing where there is no file.
absl::Status ForEachObject(const std::string& path, const std::function<void(const simdjson::dom::object&)>& visit) {
  if (!std::filesystem::exists(path)) return absl::OkStatus();
  ASSIGN_OR_RETURN(benchmark::LineReader reader, benchmark::LineReader::Open(path));
  simdjson::dom::parser parser;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) return absl::OkStatus();
    simdjson::dom::object row;
    const std::string_view line = reader.line();
    if (parser.parse(line.data(), line.size(), /*realloc_if_needed=*/false).get_object().get(row) !=
        simdjson::SUCCESS) {
      return reader.Error("is not a JSON object");
    }
    visit(row);
  }
}

std::string_view TextAt(const simdjson::dom::object& row, std::string_view key) {
  std::string_view text;
  return row.at_key(key).get_string().get(text) == simdjson::SUCCESS ? text : std::string_view();
}

class PageWriter {
 public:
  PageWriter(const std::string& directory, std::span<const Outcome> rows, const std::vector<std::string>& members)
      : directory_(directory), folder_(directory + "/" + kDataFolder), rows_(rows), members_(members) {}

  absl::StatusOr<PageIndex> Write() {
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
    std::filesystem::create_directories(folder_, error);
    if (error) return Internal("{}: cannot be created: {}", folder_, error.message());
    RETURN_IF_ERROR(ForEachObject(directory_ + "/items.jsonl", [&](const simdjson::dom::object& row) {
      items_.Number(std::string(TextAt(row, "id")));
    }));
    Arrange();
    RETURN_IF_ERROR(WriteItems());
    ASSIGN_OR_RETURN(const std::vector<int32_t> calls,
                     WriteCallPages(directory_ + "/transcripts.jsonl", folder_, items_.index(), arms_.index()));
    RETURN_IF_ERROR(ReadOwn());
    RETURN_IF_ERROR(WriteGrid(calls));
    RETURN_IF_ERROR(WriteFileAtomically(directory_ + "/audit.jsonl", audit_));
    return index_;
  }

 private:
  size_t Cell(size_t arm, size_t item, size_t replicate) const {
    return (arm * items_.names().size() + item) * replicates_ + replicate;
  }

  // Numbers arms, items and strata, and puts every row in its cell.
  void Arrange() {
    for (const Outcome& row : rows_) {
      arms_.Number(row.arm);
      items_.Number(row.id);
      replicates_ = std::max(replicates_, static_cast<size_t>(row.replicate) + 1);
    }
    cells_.assign(arms_.names().size() * items_.names().size() * replicates_, -1);
    stratum_.assign(items_.names().size(), -1);
    for (size_t r = 0; r < rows_.size(); ++r) {
      const Outcome& row = rows_[r];
      const uint32_t item = items_.Number(row.id);
      cells_[Cell(arms_.Number(row.arm), item, static_cast<size_t>(row.replicate))] = static_cast<int32_t>(r);
      if (!row.stratum.empty()) stratum_[item] = static_cast<int32_t>(strata_.Number(row.stratum));
    }
    index_.arms = arms_.names(), index_.members = members_, index_.strata = strata_.names();
    index_.items = static_cast<int64_t>(items_.names().size());
  }

  // The first replicate's flags of one item.
  int FlagsOf(size_t item) {
    size_t right = 0, present = 0;
    int flags = 0;
    std::set<std::string_view> answers;
    for (size_t arm = 0; arm < arms_.names().size(); ++arm) {
      const int32_t r = cells_[Cell(arm, item, 0)];
      if (r < 0) continue;
      const Outcome& row = rows_[static_cast<size_t>(r)];
      ++present;
      right += row.kind == OutcomeKind::kCorrect ? 1 : 0;
      if (row.kind == OutcomeKind::kTruncated) flags |= kTruncated;
      if (row.kind == OutcomeKind::kNoAnswer) flags |= kUnread;
      answers.insert(row.answer);
    }
    if (present > 0 && right == 0) flags |= kAllWrong;
    if (right > 0 && right < present) flags |= kSplit;
    if (present > 1 && answers.size() == present) flags |= kAllDisagree;
    index_.all_wrong += (flags & kAllWrong) != 0, index_.all_disagree += (flags & kAllDisagree) != 0;
    index_.truncated += (flags & kTruncated) != 0, index_.unread += (flags & kUnread) != 0;
    index_.split += (flags & kSplit) != 0;
    return flags;
  }

  std::string ItemScript(size_t item, std::string_view question, std::string_view gold) const {
    std::string answers, cluster, note;
    std::string right_answer(gold);
    for (size_t arm = 0; arm < arms_.names().size(); ++arm) {
      answers += arm == 0 ? "[" : ",[";
      bool first = true;
      for (size_t k = 0; k < replicates_; ++k) {
        const int32_t r = cells_[Cell(arm, item, k)];
        if (r < 0) continue;
        const Outcome& row = rows_[static_cast<size_t>(r)];
        if (right_answer.empty()) right_answer = row.gold;
        if (cluster.empty()) cluster = row.cluster;
        const bool other = row.strict && *row.strict != row.kind;
        answers += fmt::format("{}[{},{},{},{:.0f}]", first ? "" : ",", Quoted(row.answer), Quoted(row.rule),
                               other ? Quoted(grade::OutcomeName(*row.strict)) : "\"\"", row.output_tokens);
        first = false;
      }
      answers += "]";
    }
    const int32_t s = stratum_[item];
    return fmt::format("{{\"q\":{},\"g\":{},\"s\":{},\"k\":{},\"a\":[{}]}}", Quoted(question), Quoted(right_answer),
                       s < 0 ? "\"\"" : Quoted(strata_.names()[static_cast<size_t>(s)]), Quoted(cluster), answers);
  }

  // items-N.js: questions as they come from items.jsonl, which is in the order of the items' numbers.
  absl::Status WriteItems() {
    std::string body;
    size_t next = 0;
    absl::Status status;
    const auto add = [&](std::string_view question, std::string_view gold) {
      body += (body.empty() ? "" : ",\n") + ItemScript(next, question, gold);
      ++next;
      if ((next % kItemsPerPage != 0 && next != items_.names().size()) || !status.ok()) return;
      const size_t page = (next - 1) / kItemsPerPage;
      status = WriteFileAtomically(fmt::format("{}/items-{}.js", folder_, page),
                                   fmt::format("conclave.take(\"items-{}\",[{}]);\n", page, body));
      body.clear();
    };
    RETURN_IF_ERROR(ForEachObject(directory_ + "/items.jsonl", [&](const simdjson::dom::object& row) {
      // A repeated or foreign line has no number of its own.
      if (next < items_.names().size() && TextAt(row, "id") == items_.names()[next]) {
        add(CutText(TextAt(row, "question"), kQuestionBytesMax), TextAt(row, "answer"));
      }
    }));
    while (next < items_.names().size()) add("", "");
    return status;
  }

  // The members' own first answers, one character each.
  absl::Status ReadOwn() {
    own_.assign(members_.size(), std::string(items_.names().size(), kMissing));
    const std::string path = directory_ + "/votes.jsonl";
    if (members_.empty() || !std::filesystem::exists(path)) return absl::OkStatus();
    std::unordered_map<std::string, size_t> member_index;
    for (size_t m = 0; m < members_.size(); ++m) member_index.emplace(members_[m], m);
    return experiment::ReadVotes(path, [&](const experiment::RunVotes& run) {
      const auto item = items_.index().find(run.id);
      if (run.replicate != 0 || item == items_.index().end()) return;
      for (const experiment::Vote& vote : run.votes) {
        const auto member = member_index.find(vote.member);
        if (vote.sample != 0 || member == member_index.end()) continue;
        char& code = own_[member->second][item->second];
        if (code == kMissing) code = CodeOf(vote.kind);
      }
    });
  }

  // A line of audit.jsonl for an item that a person should look at.
  void AddToAudit(size_t item, int flags) {
    static constexpr std::pair<int, const char*> kReasons[] = {{kAllWrong, "\"all_wrong\""},
                                                               {kAllDisagree, "\"all_disagree\""},
                                                               {kTruncated, "\"truncated\""},
                                                               {kUnread, "\"no_answer\""}};
    std::string reasons, answers, gold;
    for (const auto& [flag, name] : kReasons) {
      if ((flags & flag) != 0) reasons += fmt::format("{}{}", reasons.empty() ? "" : ",", name);
    }
    if (reasons.empty()) return;
    for (size_t arm = 0; arm < arms_.names().size(); ++arm) {
      const int32_t r = cells_[Cell(arm, item, 0)];
      if (r < 0) continue;
      const Outcome& row = rows_[static_cast<size_t>(r)];
      if (gold.empty()) gold = row.gold;
      answers += fmt::format("{}{}:{}", answers.empty() ? "" : ",", Quoted(row.arm), Quoted(row.answer));
    }
    audit_ += fmt::format("{{\"id\":{},\"why\":[{}],\"gold\":{},\"answers\":{{{}}}}}\n", Quoted(items_.names()[item]),
                          reasons, Quoted(gold), answers);
  }

  absl::Status WriteGrid(const std::vector<int32_t>& calls) {
    std::vector<std::string> codes;
    const size_t n = items_.names().size();
    for (size_t arm = 0; arm < arms_.names().size(); ++arm) {
      std::string& line = codes.emplace_back(n * replicates_, kMissing);
      for (size_t k = 0; k < line.size(); ++k) {
        const int32_t r = cells_[arm * n * replicates_ + k];
        if (r >= 0) line[k] = CodeOf(rows_[static_cast<size_t>(r)].kind);
      }
    }
    std::string flags;
    for (size_t i = 0; i < n; ++i) {
      flags += static_cast<char>('0' + FlagsOf(i));
      AddToAudit(i, flags.back() - '0');
    }
    const std::string script = fmt::format(
        "conclave.take(\"grid\",{{\"arms\":{},\"members\":{},\"strata\":{},\"replicates\":{},\"chunk\":{},\n\"ids\":{},"
        "\n"
        "\"codes\":{},\n\"own\":{},\n\"flags\":\"{}\",\n\"stratum\":[{}],\n\"calls\":[{}]}});\n",
        QuotedList(arms_.names()), QuotedList(members_), QuotedList(strata_.names()), replicates_, kItemsPerPage,
        QuotedList(items_.names()), QuotedList(codes), QuotedList(own_), flags, fmt::join(stratum_, ","),
        fmt::join(calls, ","));
    return WriteFileAtomically(folder_ + "/grid.js", script);
  }

  const std::string directory_, folder_;
  const std::span<const Outcome> rows_;
  const std::vector<std::string> members_;
  Names arms_, items_, strata_;
  size_t replicates_ = 1;
  std::vector<int32_t> cells_;    // [arms, items, replicates] row, -1: none
  std::vector<int32_t> stratum_;  // [items], -1: none
  std::vector<std::string> own_;  // [members][items]
  std::string audit_;
  PageIndex index_;
};

std::string QueryOf(const std::vector<std::string>& names, const std::string& name, char kind, char is) {
  const auto it = std::find(names.begin(), names.end(), name);
  return it == names.end() ? "" : fmt::format("{}{}={}", kind, it - names.begin(), is);
}

}  // namespace

std::string PageIndex::Arm(const std::string& name, char is) const { return QueryOf(arms, name, 'a', is); }
std::string PageIndex::Member(const std::string& name, char is) const { return QueryOf(members, name, 'm', is); }
std::string PageIndex::Stratum(const std::string& name) const {
  const auto it = std::find(strata.begin(), strata.end(), name);
  return it == strata.end() ? "" : fmt::format("s={}", it - strata.begin());
}

std::string Both(const std::string& a, const std::string& b) { return a.empty() || b.empty() ? "" : a + "&" + b; }

std::string Quoted(std::string_view text) {
  using Json = nlohmann::json;
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string CutText(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return std::string(text);
  size_t cut = bytes_max;
  while (cut > 0 && (static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) --cut;
  return std::string(text.substr(0, cut)) + "\n[… cut here; the whole text is in the run directory]";
}

absl::StatusOr<PageIndex> WritePages(const std::string& directory, std::span<const Outcome> rows,
                                     const std::vector<std::string>& members) {
  return PageWriter(directory, rows, members).Write();
}

}  // namespace conclave::report
