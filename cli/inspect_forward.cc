// SPDX-License-Identifier: Apache-2.0
// inspect logits, greedy, score, perplexity, routing: a forward pass without a server.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/engine_flags.h"
#include "cli/inspect.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

struct Arguments {
  EngineFlags engine;
  std::string tokens, continuation, out;
  int32_t max_tokens = 16;
  int32_t context = 512;
  int32_t top_k = 0;
  bool stop_at_end = false;
};

absl::Status Logits(const Arguments& a) {
  ASSIGN_OR_RETURN(auto engine, a.engine.Load());
  ASSIGN_OR_RETURN(auto tokens, ParseTokens(a.tokens));
  std::vector<float> logits;
  RETURN_IF_ERROR(engine->Logits(tokens, &logits, {.top_k = a.top_k}));
  std::ofstream out(a.out, std::ios::binary);
  out.write(reinterpret_cast<const char*>(logits.data()), static_cast<std::streamsize>(logits.size() * sizeof(float)));
  out.close();
  if (!out) return Internal("{}: cannot write {} bytes", a.out, logits.size() * sizeof(float));
  return absl::OkStatus();
}

absl::Status Greedy(const Arguments& a) {
  ASSIGN_OR_RETURN(auto engine, a.engine.Load());
  engine::GenerateRequest request;
  ASSIGN_OR_RETURN(request.prompt, ParseTokens(a.tokens));
  request.sampling.temperature = 0;
  request.stopping.output_tokens_max = a.max_tokens;
  request.stopping.ignore_end_of_sequence = !a.stop_at_end;
  request.routing.top_k = a.top_k;
  ASSIGN_OR_RETURN(GenerateResult result, GenerateBlocking(*engine, std::move(request)));
  std::printf("%s\n", nlohmann::json(result.samples[0].tokens).dump().c_str());
  return absl::OkStatus();
}

absl::Status Score(const Arguments& a) {
  ASSIGN_OR_RETURN(auto engine, a.engine.Load());
  engine::ScoreRequest request;
  ASSIGN_OR_RETURN(request.prompt, ParseTokens(a.tokens));
  ASSIGN_OR_RETURN(auto continuation, ParseTokens(a.continuation));
  request.continuations = {continuation};
  request.routing.top_k = a.top_k;
  ASSIGN_OR_RETURN(engine::ScoreResult result, ScoreBlocking(*engine, std::move(request)));
  nlohmann::ordered_json json;
  json["logprob"] = result.continuations[0].logprob;
  json["tokens"] = result.continuations[0].token_logprobs;
  std::printf("%s\n", json.dump().c_str());
  return absl::OkStatus();
}

// Windows of `context` tokens; in each the second half is scored given everything before it in the window.
absl::Status Perplexity(const Arguments& a) {
  EngineFlags flags = a.engine;
  flags.tokenizer_optional = false;  // it reads text
  ASSIGN_OR_RETURN(auto engine, flags.Load());
  ASSIGN_OR_RETURN(std::string text, ReadStdin());
  ASSIGN_OR_RETURN(const auto tokens,
                   engine->Tokenize(text, engine::Engine::SpecialTokens::kAsText, /*add_begin_of_sequence=*/true));
  const size_t window = static_cast<size_t>(a.context), half = window / 2;
  if (tokens.size() < window) {
    return InvalidArgument("standard input: {} tokens, at least one window of --context {} is needed", tokens.size(),
                           window);
  }
  double sum = 0;
  int64_t count = 0;
  for (size_t begin = 0; begin + window <= tokens.size(); begin += window) {
    engine::ScoreRequest request;
    request.prompt.assign(tokens.begin() + begin, tokens.begin() + begin + half);
    request.continuations = {{tokens.begin() + begin + half, tokens.begin() + begin + window}};
    ASSIGN_OR_RETURN(engine::ScoreResult result, ScoreBlocking(*engine, std::move(request)));
    sum += result.continuations[0].logprob;
    count += static_cast<int64_t>(result.continuations[0].token_logprobs.size());
  }
  nlohmann::ordered_json json;
  json["perplexity"] = std::exp(-sum / static_cast<double>(count));
  json["tokens"] = count;
  std::printf("%s\n", json.dump().c_str());
  return absl::OkStatus();
}

absl::Status Routing(const Arguments& a) {
  ASSIGN_OR_RETURN(auto engine, a.engine.Load());
  ASSIGN_OR_RETURN(auto tokens, ParseTokens(a.tokens));
  ASSIGN_OR_RETURN(const engine::RoutingTrace trace, engine->Routing(tokens, {.top_k = a.top_k}));
  auto json = nlohmann::ordered_json::array();
  for (const auto& layer : trace) {
    auto& of_layer = json.emplace_back(nlohmann::ordered_json::array());
    for (const engine::ExpertChoice& choice : layer) {
      of_layer.push_back({{"experts", choice.experts}, {"weights", choice.weights}});
    }
  }
  std::printf("%s\n", json.dump().c_str());
  return absl::OkStatus();
}

}  // namespace

void AddInspectForward(CLI::App* inspect, Chosen* chosen) {
  auto arguments = std::make_shared<Arguments>();
  arguments->engine.tokenizer_optional = true;
  auto add = [&](const char* name, const char* help, const char* example, absl::Status (*run)(const Arguments&)) {
    auto* command = inspect->add_subcommand(name, help);
    command->footer(std::string("Example: conclave inspect ") + name + " " + example);
    arguments->engine.Add(command);
    command->callback([=] { chosen->action = [=] { return Report(run(*arguments)); }; });
    return command;
  };
  const char* tokens_help = "Token ids: 1,2,3 or @FILE with one JSON array";

  auto* logits =
      add("logits", "Raw little-endian float32 [T, V] to a file", "--model m.gguf --tokens 1,2 --out l.f32", Logits);
  logits->add_option("--tokens", arguments->tokens, tokens_help)->required();
  logits->add_option("--out", arguments->out, "File to write")->required();

  auto* greedy =
      add("greedy", "The most likely continuation, as token ids", "--model m.gguf --tokens 1 --max-tokens 16", Greedy);
  greedy->add_option("--tokens", arguments->tokens, tokens_help)->required();
  greedy->add_option("--max-tokens", arguments->max_tokens, "Tokens to generate")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  greedy->add_flag("--stop-at-end", arguments->stop_at_end, "Let end-of-sequence tokens stop it");

  auto* score =
      add("score", "Log-likelihood of a continuation", "--model m.gguf --tokens 1,2 --continuation 3,4", Score);
  score->add_option("--tokens", arguments->tokens, tokens_help)->required();
  score->add_option("--continuation", arguments->continuation, tokens_help)->required();

  auto* perplexity =
      add("perplexity", "Perplexity of standard input", "--model m.gguf --context 512 < text", Perplexity);
  perplexity->add_option("--context", arguments->context, "Tokens per window")
      ->required()
      ->check(CLI::Range(4, 1 << 20));

  auto* routing = add("routing", "Experts and weights per layer and token", "--model m.gguf --tokens 1,2", Routing);
  routing->add_option("--tokens", arguments->tokens, tokens_help)->required();
  for (auto* command : {logits, greedy, score, routing}) {
    command->add_option("--top-k", arguments->top_k, "Experts per token; 0: the model's own")
        ->check(CLI::Range(0, 1024));
  }
}

}  // namespace conclave::cli
