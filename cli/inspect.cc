// SPDX-License-Identifier: Apache-2.0
#include "cli/inspect.h"

#include <cstdio>
#include <nlohmann/json.hpp>

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
          {"attention_flops_per_token_and_position", m.attention_flops_per_token_and_position},
          {"quantization", m.quantization},
          {"revision", m.revision},
          {"kernel", m.kernel},
          {"chat_template", !m.chat_template.empty()}};
}

int InspectModel(const EngineFlags& flags, const Output& output) {
  auto engine = flags.Load();
  if (!engine.ok()) return Report(engine.status());
  const auto json = ToJson((*engine)->info());
  if (output.json) {
    std::printf("%s\n", json.dump(2).c_str());
    return kOk;
  }
  for (const auto& [key, value] : json.items()) {
    std::printf("%-40s %s\n", key.c_str(), value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
  std::printf("\n%s\n", (*engine)->memory().ToString().c_str());
  return kOk;
}

}  // namespace

void AddInspectModel(CLI::App* inspect, Chosen* chosen) {
  auto* command = inspect->add_subcommand("model", "Sizes, formats and costs of a model file");
  command->footer("Example: conclave inspect model --model llama.gguf --json");
  auto flags = std::make_shared<EngineFlags>();
  auto output = std::make_shared<Output>();
  flags->Add(command);
  AddOutputFlags(command, output.get());
  command->callback([=] { chosen->action = [=] { return InspectModel(*flags, *output); }; });
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
