// SPDX-License-Identifier: Apache-2.0
// inspect tokenize, detokenize: text and token ids of a vocabulary.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/engine_flags.h"
#include "cli/inspect.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

struct Arguments {
  std::string model, tokens;
  bool special = false, bos = false;
};

absl::Status Tokenize(const Arguments& a) {
  ASSIGN_OR_RETURN(const auto vocabulary, engine::Vocabulary::Load(ExpandHome(a.model)));
  ASSIGN_OR_RETURN(const std::string text, ReadStdin(engine::kTextBytesMax));
  using SpecialTokens = engine::Vocabulary::SpecialTokens;
  ASSIGN_OR_RETURN(const auto ids,
                   vocabulary->Tokenize(text, a.special ? SpecialTokens::kParse : SpecialTokens::kAsText, a.bos));
  std::printf("%s\n", nlohmann::json(ids).dump().c_str());
  return absl::OkStatus();
}

absl::Status Detokenize(const Arguments& a) {
  ASSIGN_OR_RETURN(const auto vocabulary, engine::Vocabulary::Load(ExpandHome(a.model)));
  ASSIGN_OR_RETURN(const auto tokens, ParseTokens(a.tokens));
  const std::string text = vocabulary->Detokenize(tokens);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

}  // namespace

void AddInspectText(CLI::App* inspect, Chosen* chosen) {
  auto a = std::make_shared<Arguments>();
  const char* model_help = "GGUF file, Hugging Face directory or tokenizer.json; weights are not needed";
  auto* tokenize = inspect->add_subcommand("tokenize", "Token ids of standard input, as a JSON array");
  tokenize->footer("Example: echo -n 'Hello' | conclave inspect tokenize --model llama.gguf --bos");
  tokenize->add_option("--model", a->model, model_help)->required();
  tokenize->add_flag("--special", a->special, "Let special tokens in the text become themselves");
  tokenize->add_flag("--bos", a->bos, "Add what the model adds at the beginning");
  tokenize->callback([=] { chosen->action = [=] { return Report(Tokenize(*a)); }; });

  auto* detokenize = inspect->add_subcommand("detokenize", "The text of token ids");
  detokenize->footer("Example: conclave inspect detokenize --model llama.gguf --tokens 1,15043");
  detokenize->add_option("--model", a->model, model_help)->required();
  detokenize->add_option("--tokens", a->tokens, "Token ids: 1,2,3 or @FILE with one JSON array")->required();
  detokenize->callback([=] { chosen->action = [=] { return Report(Detokenize(*a)); }; });
}

}  // namespace conclave::cli
