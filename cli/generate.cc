// SPDX-License-Identifier: Apache-2.0
// `conclave generate`: one completion of a model file, in this process.
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

struct Arguments {
  EngineFlags engine;
  Output output;
  std::string prompt, system;
  bool raw = false;
  std::optional<float> temperature, top_p, min_p;
  std::optional<int32_t> top_k;
  int32_t max_tokens = 256;
  int32_t samples = 1;
  uint64_t seed = 0;
  std::vector<std::string> stop;
  std::string json_schema, regex, grammar;  // the first and last are files
};

const char* FinishName(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kStop:
      return "stop";
    case engine::FinishReason::kLength:
      return "length";
    case engine::FinishReason::kCancelled:
      return "cancelled";
    case engine::FinishReason::kFailed:
      return "failed";
  }
  return "failed";
}

absl::StatusOr<std::vector<engine::TokenId>> PromptTokens(const engine::Engine& engine, const Arguments& a,
                                                          const std::string& prompt) {
  if (a.raw || engine.info().chat_template.empty()) {
    return engine.Tokenize(prompt, engine::Engine::SpecialTokens::kAsText, /*add_begin_of_sequence=*/true);
  }
  std::vector<engine::ChatMessage> messages;
  if (!a.system.empty()) messages.push_back({"system", a.system});
  messages.push_back({"user", prompt});
  ASSIGN_OR_RETURN(auto chat, engine.ApplyChatTemplate(messages, /*add_generation_prompt=*/true,
                                                       Clock::System().UnixNs() / 1'000'000'000));
  return chat.tokens;
}

void PrintJson(const GenerateResult& result, double seconds) {
  nlohmann::ordered_json json;
  for (const Completion& sample : result.samples) {
    json["samples"].push_back(
        {{"text", sample.text}, {"tokens", sample.tokens}, {"finish", FinishName(sample.finish)}});
  }
  json["usage"] = {{"prompt_tokens", result.usage.prompt_tokens},
                   {"cached_prompt_tokens", result.usage.cached_prompt_tokens},
                   {"output_tokens", result.usage.output_tokens},
                   {"flops", result.usage.flops},
                   {"weight_bytes", result.usage.weight_bytes},
                   {"kv_bytes", result.usage.kv_bytes},
                   {"seconds", seconds}};
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

// The makers' recommendation, where the user does not say.
engine::Sampling SamplingOf(const Arguments& a, engine::Sampling sampling) {
  sampling.temperature = a.temperature.value_or(sampling.temperature);
  sampling.top_k = a.top_k.value_or(sampling.top_k);
  sampling.top_p = a.top_p.value_or(sampling.top_p);
  sampling.min_p = a.min_p.value_or(sampling.min_p);
  return sampling;
}

absl::StatusOr<engine::Constraint> ConstraintOf(const Arguments& a) {
  using Language = engine::Constraint::Language;
  if (!a.regex.empty()) return engine::Constraint{Language::kRegex, a.regex};
  const std::string& file = a.json_schema.empty() ? a.grammar : a.json_schema;
  if (file.empty()) return engine::Constraint{};
  ASSIGN_OR_RETURN(std::string source, ReadFile(ExpandHome(file), engine::kConstraintBytesMax));
  return engine::Constraint{a.json_schema.empty() ? Language::kGrammar : Language::kJsonSchema, std::move(source)};
}

absl::Status Generate(const Arguments& a) {
  std::string prompt = a.prompt;
  if (prompt == "-") {
    ASSIGN_OR_RETURN(prompt, ReadStdin());
  }
  ASSIGN_OR_RETURN(auto engine, a.engine.Load());
  engine::GenerateRequest request;
  ASSIGN_OR_RETURN(request.prompt, PromptTokens(*engine, a, prompt));
  request.samples = a.samples;
  request.seed = a.seed;
  request.sampling = SamplingOf(a, engine->info().sampling);
  request.stopping.output_tokens_max = a.max_tokens;
  request.stopping.stop_strings = a.stop;
  ASSIGN_OR_RETURN(request.constraint, ConstraintOf(a));
  const bool stream = !a.output.json && a.samples == 1;
  const int64_t begin = Clock::System().NowNs();
  ASSIGN_OR_RETURN(GenerateResult result,
                   GenerateBlocking(*engine, std::move(request), [stream](std::string_view piece) {
                     if (!stream) return;
                     std::fwrite(piece.data(), 1, piece.size(), stdout);
                     std::fflush(stdout);
                   }));
  const double seconds = static_cast<double>(Clock::System().NowNs() - begin) * 1e-9;
  if (a.output.json) {
    PrintJson(result, seconds);
    return absl::OkStatus();
  }
  for (size_t i = 0; !stream && i < result.samples.size(); ++i) {
    std::printf("--- sample %zu (%s)\n%s\n", i, FinishName(result.samples[i].finish), result.samples[i].text.c_str());
  }
  const engine::Usage& u = result.usage;
  std::printf("\n");
  std::fprintf(stderr, "%lld prompt + %lld output tokens in %.2f s, %.0f tokens/s, %.2f GFLOP\n",
               static_cast<long long>(u.prompt_tokens), static_cast<long long>(u.output_tokens), seconds,
               static_cast<double>(u.output_tokens) / seconds, static_cast<double>(u.flops) * 1e-9);
  return absl::OkStatus();
}

}  // namespace

void AddGenerate(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("generate", "One completion of a model file");
  command->footer("Example: conclave generate --model llama.gguf \"Why is the sky blue?\" --temperature 0");
  auto a = std::make_shared<Arguments>();
  a->engine.Add(command);
  AddOutputFlags(command, &a->output);
  command->add_option("prompt", a->prompt, "The prompt, or - for standard input")->required();
  command->add_option("--system", a->system, "System message");
  command->add_flag("--raw", a->raw, "Continue the text as it is, without the chat template");
  command->add_option("--max-tokens", a->max_tokens, "Longest output")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--samples", a->samples, "Samples that share the prompt")
      ->capture_default_str()
      ->check(CLI::Range(1, engine::kSamplesMax));
  command->add_option("--seed", a->seed, "Same seed, same text")->capture_default_str();
  command
      ->add_option("--temperature", a->temperature,
                   "0: greedy; default: what generation_config.json recommends, else 1")
      ->check(CLI::Range(0.0, 100.0));
  command->add_option("--top-k", a->top_k, "0: off; default as above, else off")->check(CLI::NonNegativeNumber);
  command->add_option("--top-p", a->top_p, "1: off; default as above, else off")->check(CLI::Range(0.0, 1.0));
  command->add_option("--min-p", a->min_p, "0: off; default as above, else off")->check(CLI::Range(0.0, 1.0));
  command->add_option("--stop", a->stop, "Stop text (repeatable)");
  auto* schema = command->add_option("--json-schema", a->json_schema, "A file: the text is JSON that it accepts");
  auto* regex = command->add_option("--regex", a->regex, "A regular expression: the whole text matches it");
  auto* grammar =
      command->add_option("--grammar", a->grammar, "A file of rules in GBNF: the text is what \"root\" says");
  schema->excludes(regex)->excludes(grammar);
  regex->excludes(grammar);
  command->callback([=] { chosen->action = [=] { return Report(Generate(*a)); }; });
}

}  // namespace conclave::cli
