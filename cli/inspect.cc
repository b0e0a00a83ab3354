// SPDX-License-Identifier: Apache-2.0
#include "cli/inspect.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/engine_flags.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

nlohmann::ordered_json ToJson(const engine::ModelInfo& m) {
  return {{"name", m.name},
          {"family", m.family},
          {"layers", m.layers},
          {"hidden", m.hidden},
          {"heads", m.heads},
          {"kv_heads", m.kv_heads},
          {"head_dim", m.head_dim},
          {"feed_forward", m.feed_forward},
          {"vocab", m.vocab},
          {"experts", m.experts},
          {"experts_per_token", m.experts_per_token},
          {"context_tokens", m.context_tokens},
          {"params_total", m.params_total},
          {"params_active", m.params_active},
          {"weight_bytes", m.weight_bytes},
          {"weight_bytes_per_token", m.weight_bytes_per_token},
          {"kv_bytes_per_token", m.kv_bytes_per_token},
          {"flops_per_token", m.flops_per_token},
          {"head_flops_per_token", m.head_flops_per_token},
          {"attention_flops_per_token_and_position", m.attention_flops_per_token_and_position},
          {"window", m.window},
          {"window_layers", m.window_layers},
          {"quantization", m.quantization},
          {"revision", m.revision},
          {"kernel", m.kernel},
          {"chat_template", !m.chat_template.empty()}};
}

struct PlanFlags {
  std::optional<double> bits_per_weight;
  int32_t devices = 1;
  double device_gb = 0;
};

// A bare config.json: what the model takes, and what fits on given devices.
absl::StatusOr<nlohmann::ordered_json> Plan(const EngineFlags& flags, const PlanFlags& plan) {
  ASSIGN_OR_RETURN(const engine::ModelInfo info, engine::PlanModel(ExpandHome(flags.model), plan.bits_per_weight));
  nlohmann::ordered_json json = ToJson(info);
  for (const char* unknown : {"name", "quantization", "revision", "kernel", "chat_template"}) json.erase(unknown);
  ASSIGN_OR_RETURN(const engine::RankPlan rank,
                   engine::PlanRank(ExpandHome(flags.model), plan.bits_per_weight, plan.devices));
  if (plan.devices > 1) {
    json["weight_bytes_per_device"] = rank.weight_bytes;
    json["kv_bytes_per_token_per_device"] = rank.kv_bytes_per_token;
  }
  if (plan.device_gb <= 0) return json;
  // Of every token each device caches its own heads; what a step needs besides is not counted.
  const double left = plan.device_gb * 1e9 - static_cast<double>(rank.weight_bytes);
  json["fits"] = left > 0;
  json["kv_tokens"] = left > 0 ? static_cast<int64_t>(left / static_cast<double>(rank.kv_bytes_per_token)) : 0;
  return json;
}

void PrintFields(const nlohmann::ordered_json& json) {
  for (const auto& [key, value] : json.items()) {
    std::printf("%-40s %s\n", key.c_str(), value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
}

int InspectModel(const EngineFlags& flags, const PlanFlags& plan, const Output& output) {
  if (flags.model.ends_with(".json")) {
    const auto json = Plan(flags, plan);
    if (!json.ok()) return Report(json.status());
    output.json ? static_cast<void>(std::printf("%s\n", json->dump(2).c_str())) : PrintFields(*json);
    return kOk;
  }
  auto engine = flags.Load();
  if (!engine.ok()) return Report(engine.status());
  const auto json = ToJson((*engine)->info());
  if (output.json) {
    std::printf("%s\n", json.dump(2).c_str());
    return kOk;
  }
  PrintFields(json);
  std::printf("\n%s\n", (*engine)->memory().ToString().c_str());
  return kOk;
}

}  // namespace

void AddInspectModel(CLI::App* inspect, Chosen* chosen) {
  auto* command = inspect->add_subcommand(
      "model", "Sizes, formats and costs of a model; of a bare config.json, before any download");
  command->footer("Example: conclave inspect model --model llama.gguf --json");
  auto flags = std::make_shared<EngineFlags>();
  auto output = std::make_shared<Output>();
  auto plan = std::make_shared<PlanFlags>();
  flags->tokenizer_optional = true;
  flags->Add(command);
  command->add_option("--bits-per-weight", plan->bits_per_weight,
                      "Of a plan: 16, 8, 4.5 ..; without it, what config.json says of type and quantisation");
  command->add_option("--devices", plan->devices, "Of a plan: devices that share the model")->capture_default_str();
  command->add_option("--device-gb", plan->device_gb, "Of a plan: memory of each, 10^9 bytes: says whether it fits")
      ->check(CLI::PositiveNumber);
  AddOutputFlags(command, output.get());
  command->callback([=] { chosen->action = [=] { return InspectModel(*flags, *plan, *output); }; });
}

void AddInspect(CLI::App* app, Chosen* chosen) {
  auto* inspect =
      app->add_subcommand("inspect", "Look inside models, tokenizers, templates and graders without a server");
  inspect->footer("Example: echo 'Hello' | conclave inspect tokenize --model llama.gguf");
  inspect->require_subcommand(1);
  AddInspectModel(inspect, chosen);
  AddInspectText(inspect, chosen);
  AddInspectTemplate(inspect, chosen);
  AddInspectForward(inspect, chosen);
  AddInspectGrade(inspect, chosen);
}

}  // namespace conclave::cli
