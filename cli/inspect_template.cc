// SPDX-License-Identifier: Apache-2.0
// inspect template: the prompt that a chat template renders.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/engine_flags.h"
#include "cli/inspect.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/jinja/jinja.h"
#include "common/jinja/json.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::string model, file, messages, variables;
  bool generation_prompt = false;
  int64_t now = -1;
};

absl::StatusOr<Json> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, int64_t{64} << 20));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return InvalidArgument("{}: is not JSON", path);
  return json;
}

// All that the template sees, as one object.
absl::StatusOr<Json> Variables(const Arguments& a, const Json& messages) {
  Json variables = Json::object();
  if (!a.variables.empty()) {
    ASSIGN_OR_RETURN(variables, ReadJson(a.variables));
    if (!variables.is_object()) return InvalidArgument("{}: a JSON object of variables is needed", a.variables);
  }
  variables["messages"] = messages;
  variables["add_generation_prompt"] = a.generation_prompt;
  return variables;
}

absl::StatusOr<std::string> RenderFile(const Arguments& a, const Json& variables, int64_t now) {
  ASSIGN_OR_RETURN(const std::string source, ReadFile(a.file, int64_t{16} << 20));
  ASSIGN_OR_RETURN(const jinja::Value value, jinja::FromJson(variables, jinja::Author::kUser));
  const auto parsed = jinja::Template::Parse(source);
  if (!parsed.ok()) return Annotate(parsed.status(), a.file);
  jinja::RenderOptions options;
  options.now_unix_seconds = now;
  auto rendered = parsed->Render(value, options);
  if (!rendered.ok()) return Annotate(rendered.status(), a.file);
  return std::move(rendered->text);
}

// A model's own template, as a worker would use it.
absl::StatusOr<std::string> RenderModel(const Arguments& a, const Json& variables, int64_t now) {
  ASSIGN_OR_RETURN(const auto vocabulary, engine::Vocabulary::Load(ExpandHome(a.model)));
  ASSIGN_OR_RETURN(auto prompt, vocabulary->ApplyChatTemplate(variables.dump(), now));
  return std::move(prompt.text);
}

absl::Status RenderTemplate(const Arguments& a) {
  ASSIGN_OR_RETURN(const Json messages, ReadJson(a.messages));
  if (!messages.is_array()) return InvalidArgument("{}: a JSON array of messages is needed", a.messages);
  const int64_t now = a.now >= 0 ? a.now : Clock::System().UnixNs() / 1'000'000'000;
  ASSIGN_OR_RETURN(const Json variables, Variables(a, messages));
  auto text = a.file.empty() ? RenderModel(a, variables, now) : RenderFile(a, variables, now);
  if (!text.ok()) return text.status();
  std::fwrite(text->data(), 1, text->size(), stdout);
  return absl::OkStatus();
}

}  // namespace

void AddInspectTemplate(CLI::App* inspect, Chosen* chosen) {
  auto* command = inspect->add_subcommand("template", "The prompt that a chat template renders");
  command->footer("Example: conclave inspect template --model llama.gguf --messages chat.json --generation-prompt");
  auto a = std::make_shared<Arguments>();
  auto* source = command->add_option_group("source");
  source->add_option("--model", a->model, "GGUF file or Hugging Face directory with a chat template");
  source->add_option("--template", a->file, "Jinja file");
  source->require_option(1);
  command->add_option("--messages", a->messages, "JSON array of {role, content, ..}")->required();
  command->add_option("--variables", a->variables, "JSON object of further variables (bos_token, tools, ..)");
  command->add_flag("--generation-prompt", a->generation_prompt, "End where the assistant begins");
  command->add_option("--now", a->now, "What strftime_now sees, Unix seconds; default: the clock");
  command->callback([=] { chosen->action = [=] { return Report(RenderTemplate(*a)); }; });
}

}  // namespace conclave::cli
