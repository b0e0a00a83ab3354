// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/hf_tokens.h"

#include "common/status.h"

namespace conclave::engine {

absl::StatusOr<std::vector<TokenId>> ReadHfEndTokens(const HfDirectory& directory) {
  for (const char* name : {"generation_config.json", "config.json"}) {
    ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> document, directory.ReadJson(name));
    if (document == nullptr) continue;
    ASSIGN_OR_RETURN(const JsonObject root, document->root().Object());
    const JsonValue* value = root.Find("eos_token_id");
    if (value == nullptr) continue;
    std::vector<JsonValue> values = {*value};
    if (value->IsArray()) {
      ASSIGN_OR_RETURN(values, value->Array());
    }
    std::vector<TokenId> tokens;
    for (const JsonValue& id : values) {
      ASSIGN_OR_RETURN(const int64_t token, id.Integer(0, kVocabularyTokensMax - 1));
      tokens.push_back(static_cast<TokenId>(token));
    }
    return tokens;
  }
  return std::vector<TokenId>();
}

}  // namespace conclave::engine
