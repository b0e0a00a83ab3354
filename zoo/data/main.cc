// SPDX-License-Identifier: Apache-2.0
// conclave-zoo-data: training documents as JSONL.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>

#include "common/status.h"
#include "orchestrator/experiment/benchmark/json_line.h"
#include "zoo/data/writer.h"

namespace conclave::zoo {
namespace {

struct Arguments {
  std::vector<std::string> families = {"all"};
  std::vector<std::string> parts = {"all"};
  std::string split = "train";
  std::string difficulty = "1-10";
  uint64_t seed = 0;
  uint64_t count = 1000;
  std::string roles_directory = "graphs/roles";
  std::string checks = "results";
  std::string drafts;
  bool list = false;
};

absl::StatusOr<WriterOptions> OptionsOf(const Arguments& a) {
  WriterOptions options;
  options.seed = a.seed;
  for (const std::string& name : a.families) {
    const benchmark::Family* family = benchmark::FindFamily(name);
    if (name != "all" && family == nullptr) return InvalidArgument("--family {}: unknown; see --list", name);
    for (const benchmark::Family& each : benchmark::Families()) {
      if (name == "all" || &each == family) options.families.push_back(&each);
    }
  }
  for (const std::string& name : a.parts) {
    if (name == "all") continue;
    const std::optional<Part> part = PartNamed(name);
    if (!part.has_value()) return InvalidArgument("--role {}: unknown; see --list", name);
    options.parts.push_back(*part);
  }
  const auto split = benchmark::SplitNamed(a.split);
  if (!split.has_value()) return InvalidArgument("--split {}: train, development and test are known", a.split);
  options.split = *split;
  if (a.checks != "results" && a.checks != "steps") {
    return InvalidArgument("--checks {}: results and steps are known", a.checks);
  }
  options.checks = a.checks == "steps" ? Checks::kSteps : Checks::kResults;
  char end = 0;
  const int read =
      std::sscanf(a.difficulty.c_str(), "%d-%d%c", &options.difficulty_low, &options.difficulty_high, &end);
  if (read == 1) options.difficulty_high = options.difficulty_low;
  if (read < 1 || read > 2)
    return InvalidArgument("--difficulty {}: a number or a range is needed: 3 or 2-6", a.difficulty);
  return options;
}

absl::Status Put(const Document& document) {
  std::string line = ToJson(document);
  line += '\n';
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size()) return Unavailable("stdout: write failed");
  return absl::OkStatus();
}

// Drafts that models wrote, by problem.
absl::StatusOr<std::map<std::string, std::vector<std::string>>> ReadDrafts(const std::string& path) {
  std::map<std::string, std::vector<std::string>> drafts;
  ASSIGN_OR_RETURN(benchmark::LineReader reader, benchmark::LineReader::Open(path));
  benchmark::JsonLine line;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) return drafts;
    RETURN_IF_ERROR(line.Parse(reader));
    ASSIGN_OR_RETURN(const std::string_view id, line.Text(reader, "id"));
    ASSIGN_OR_RETURN(const std::string_view text, line.Text(reader, "text"));
    drafts[std::string(id)].emplace_back(text);
  }
}

absl::Status WriteOfDrafts(const Writer& writer, const std::vector<Part>& parts, const Arguments& a) {
  if (parts.empty()) return InvalidArgument("--drafts needs --role, e.g. critic,verifier");
  ASSIGN_OR_RETURN(const auto drafts, ReadDrafts(a.drafts));
  uint64_t index = 0;
  for (const auto& [id_text, texts] : drafts) {
    ASSIGN_OR_RETURN(const ProblemId id, ProblemId::Parse(id_text));
    const Case c = MakeCase(id);
    for (const Part part : parts) {
      ASSIGN_OR_RETURN(const std::optional<Document> document, writer.MakeOf(part, c, texts, index++));
      if (document.has_value()) RETURN_IF_ERROR(Put(*document));
    }
  }
  return absl::OkStatus();
}

absl::Status Run(const Arguments& a) {
  if (a.list) {
    for (const benchmark::Family& family : benchmark::Families()) fmt::print("{}\n", family.name);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(WriterOptions options, OptionsOf(a));
  ASSIGN_OR_RETURN(Prompts prompts, Prompts::Load(a.roles_directory));
  const std::vector<Part> parts = options.parts;
  ASSIGN_OR_RETURN(const Writer writer, Writer::Create(std::move(options), std::move(prompts)));
  if (!a.drafts.empty()) return WriteOfDrafts(writer, parts, a);
  for (uint64_t i = 0; i < a.count; ++i) {
    ASSIGN_OR_RETURN(const Document document, writer.Make(i));
    RETURN_IF_ERROR(Put(document));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace conclave::zoo

int main(int argc, char** argv) {
  conclave::zoo::Arguments a;
  CLI::App app("Training documents of the scale model, as JSONL");
  app.footer("Example: conclave-zoo-data --family chain,sorting --role all --seed 1 --count 1000 --difficulty 2-6");
  app.add_option("--family", a.families, "Families, or all")->delimiter(',')->capture_default_str();
  app.add_option(
         "--role", a.parts,
         "solver, consolidate, prover, repair, planner, critic, reviser, verifier, judge; or all, in fixed shares")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--seed", a.seed, "Same seed, same documents")->capture_default_str();
  app.add_option("--count", a.count, "How many documents")->capture_default_str();
  app.add_option("--split", a.split, "train, development or test")->capture_default_str();
  app.add_option("--difficulty", a.difficulty, "1 to 10, or a range")->capture_default_str();
  app.add_option("--roles-dir", a.roles_directory, "The project's graphs/roles")->capture_default_str();
  app.add_option(
         "--checks", a.checks,
         "What verifiers write of a step before they say ok or wrong: results, or whole steps, which critics then "
         "write too")
      ->capture_default_str();
  app.add_option(
      "--drafts", a.drafts,
      "JSONL {\"id\", \"text\"}: what models wrote for problems of earlier documents; documents of --role are "
      "made of them");
  app.add_flag("--list", a.list, "The families");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = conclave::zoo::Run(a);
  if (status.ok()) return 0;
  fmt::print(stderr, "conclave-zoo-data: {}\n", conclave::Message(status));
  return 1;
}
