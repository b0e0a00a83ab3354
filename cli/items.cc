// SPDX-License-Identifier: Apache-2.0
// `conclave items`: benchmark items as JSONL, from the seeded generator.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/generator.h"

namespace conclave::cli {
namespace {

absl::Status Items(const benchmark::GeneratorOptions& options) {
  ASSIGN_OR_RETURN(const auto items, benchmark::Generate(options));
  for (const benchmark::Item& item : items) {
    const nlohmann::ordered_json json = {
        {"id", item.id}, {"question", item.question}, {"answer", item.answer}, {"stratum", item.stratum}};
    std::printf("%s\n", json.dump().c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddItems(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("items", "Seeded synthetic questions with exact answers, as JSONL");
  command->footer("Example: conclave items --kind story --count 100 --seed 1 --difficulty 3 > items.jsonl");
  auto options = std::make_shared<benchmark::GeneratorOptions>();
  options->count = 10;
  std::string kinds;
  for (std::string_view kind : benchmark::GeneratorKinds()) kinds += (kinds.empty() ? "" : ", ") + std::string(kind);
  command->add_option("--kind", options->kinds,
                      "Repeatable, in turns; of " + kinds +
                          "; steps: all whose solutions are numbered steps. Its own difficulty may follow: chain:4, "
                          "steps:2-6. Default: arithmetic, knights, story, string");
  auto split = std::make_shared<std::string>();
  command->add_option("--split", *split, "Only questions of this part of the data. Default: of all")
      ->check(CLI::IsMember({"train", "development", "test"}));
  command->add_option("--count", options->count, "How many")->capture_default_str();
  command->add_option("--seed", options->seed, "Same seed, same items")->capture_default_str();
  command->add_option("--difficulty", options->difficulty, "1 to 10")
      ->capture_default_str()
      ->check(CLI::Range(1, benchmark::kDifficultyMax));
  command->callback([=] {
    options->split = benchmark::SplitNamed(*split);
    chosen->action = [=] { return Report(Items(*options)); };
  });
}

}  // namespace conclave::cli
