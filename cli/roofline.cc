// SPDX-License-Identifier: Apache-2.0
// `conclave roofline`: time, energy and machines of models that do not run here.
#include "orchestrator/ledger/roofline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/session.h"
#include "common/file.h"
#include "common/status.h"
#include "protos/textproto.h"

namespace conclave::cli {
namespace {

using Json = nlohmann::ordered_json;
using deliberation::v1::Hardware;

struct Arguments {
  std::string file;
  std::vector<std::string> models = {"20:qwen3-32b", "deepseek-v3"};
  std::vector<std::string> accelerators;
  double batch = 8, context = 600, prompt = 400, output = 400;
  Output output_flags;
};

// "20:qwen3-32b": how many copies of which model.
struct Wanted {
  int32_t copies = 1;
  const deliberation::v1::PlannedModel* model = nullptr;
};

template <typename Entries>
auto Named(const Entries& entries, const std::string& name, const std::string& what, const std::string& file)
    -> absl::StatusOr<const typename Entries::value_type*> {
  std::vector<std::string> names;
  for (const auto& entry : entries) {
    if (entry.name() == name) return &entry;
    names.push_back(entry.name());
  }
  const std::string_view near = Nearest(name, names);
  return InvalidArgument("{}: no {} \"{}\"{}; known: {}", file, what, name,
                         near.empty() ? std::string() : fmt::format(", is \"{}\" meant?", near),
                         fmt::join(names, ", "));
}

absl::StatusOr<Wanted> ReadWanted(const Hardware& hardware, const std::string& text, const std::string& file) {
  Wanted wanted;
  const size_t colon = text.find(':');
  std::string name = text;
  if (colon != std::string::npos) {
    constexpr size_t kDigitsMax = 6;
    const std::string digits = text.substr(0, colon);
    if (digits.empty() || digits.size() > kDigitsMax || digits.find_first_not_of("0123456789") != std::string::npos) {
      return UsageError(fmt::format("--model {}: COPIES:MODEL is needed, e.g. 20:qwen3-32b", text));
    }
    wanted.copies = std::stoi(digits);
    name = text.substr(colon + 1);
  }
  ASSIGN_OR_RETURN(wanted.model, Named(hardware.model(), name, "model", file));
  return wanted;
}

// One model on one accelerator.
absl::StatusOr<Json> Row(const Wanted& wanted, const deliberation::v1::Accelerator& accelerator, const Arguments& a) {
  const auto& card = wanted.model->card();
  orchestrator::Serving serving{.devices = 1, .batch = a.batch, .context = a.context};
  ASSIGN_OR_RETURN(const auto footprint, orchestrator::Hold(card, accelerator, serving, wanted.copies));
  serving.devices = footprint.devices_per_copy;
  ASSIGN_OR_RETURN(const auto step, orchestrator::DecodeStep(card, accelerator, serving));
  ASSIGN_OR_RETURN(const auto answer, orchestrator::Answer(card, accelerator, serving, a.prompt, a.output));
  return Json{{"model", wanted.model->name()},
              {"copies", wanted.copies},
              {"accelerator", accelerator.name()},
              {"devices", footprint.devices},
              {"nodes", footprint.nodes},
              {"weight_bytes", footprint.weight_bytes},
              {"kv_bytes", footprint.kv_bytes},
              {"step_seconds", step.seconds},
              {"memory_bound", step.memory_bound},
              {"tokens_per_second_and_copy", a.batch / step.seconds},
              {"watts_per_copy", step.watts},
              {"answer_seconds", answer.seconds},
              {"answer_joules", answer.joules * wanted.copies},
              {"modelled", true},
              {"source", accelerator.source()},
              {"fitted_to", accelerator.fitted_to()},
              {"model_source", card.source()}};
}

absl::Status Roofline(const Arguments& a) {
  const std::string file = a.file.empty() ? DefaultGraphsDirectory() + "/hardware/hardware.textproto" : a.file;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(file, kTextprotoBytesMax));
  Hardware hardware;
  const ParsedText parsed = ParseTextproto(text, &hardware);
  for (const TextError& error : parsed.errors) return InvalidArgument("{}:{}: {}", file, error.line, error.message);
  Json rows = Json::array();
  for (const std::string& name : a.models) {
    ASSIGN_OR_RETURN(const Wanted wanted, ReadWanted(hardware, name, file));
    for (const auto& accelerator : hardware.accelerator()) {
      const bool asked = a.accelerators.empty() || std::find(a.accelerators.begin(), a.accelerators.end(),
                                                             accelerator.name()) != a.accelerators.end();
      if (!asked) continue;
      auto row = Row(wanted, accelerator, a);
      if (!row.ok()) return Annotate(row.status(), file);
      rows.push_back(*std::move(row));
    }
  }
  for (const std::string& name : a.accelerators) {
    RETURN_IF_ERROR(Named(hardware.accelerator(), name, "accelerator", file).status());
  }
  if (a.output_flags.json) {
    fmt::print("{}\n", rows.dump(2));
    return absl::OkStatus();
  }
  fmt::print("{:>4} {:<18} {:<10} {:>7} {:>5} {:>9} {:>9} {:>9} {:>10} {:>11}\n", "", "model", "device", "devices",
             "nodes", "weights", "step", "token/s", "s/answer", "J/question");
  for (const Json& r : rows) {
    fmt::print("{:>4} {:<18} {:<10} {:>7} {:>5} {:>6.0f} GB {:>6.1f} ms {:>9.0f} {:>10.1f} {:>11.0f}\n",
               r["copies"].get<int>(), r["model"].get<std::string>(), r["accelerator"].get<std::string>(),
               r["devices"].get<int>(), r["nodes"].get<int>(), 1e-9 * r["weight_bytes"].get<double>(),
               1e3 * r["step_seconds"].get<double>(), r["tokens_per_second_and_copy"].get<double>(),
               r["answer_seconds"].get<double>(), r["answer_joules"].get<double>());
  }
  fmt::print(
      "\nModelled, not measured: {:.0f} sequences in a step with {:.0f} tokens before each; answers of {:.0f} tokens "
      "after "
      "{:.0f} of prompt, one of every copy. Step times of published servers are met within 20 %, their power within 30 "
      "%; "
      "constants and sources: {}\n",
      a.batch, a.context, a.output, a.prompt, file);
  return absl::OkStatus();
}

}  // namespace

void AddRoofline(CLI::App* app, Chosen* chosen) {
  auto* command =
      app->add_subcommand("roofline", "Time, energy and machines of models that do not run here (modelled)");
  command->footer(
      "Example: conclave roofline --model 20:qwen3-32b --model deepseek-v3 --accelerator h100-sxm --batch 32");
  auto a = std::make_shared<Arguments>();
  command->add_option("--model", a->models, "[COPIES:]MODEL of the file (repeatable)")->capture_default_str();
  command->add_option("--accelerator", a->accelerators, "Of the file (repeatable); default: all");
  command->add_option("--batch", a->batch, "Sequences in a step")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--context", a->context, "Tokens before each, in the mean")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--prompt", a->prompt, "Prompt tokens of an answer")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--output", a->output, "Output tokens of an answer")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--file", a->file, "Hardware file; default: the shipped one");
  AddOutputFlags(command, &a->output_flags);
  command->callback([=] { chosen->action = [=] { return cli::Report(Roofline(*a)); }; });
}

}  // namespace conclave::cli
