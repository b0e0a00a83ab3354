// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/hf_tokens.h"

#include <algorithm>
#include <array>

#include "common/status.h"
#include "engine/tokenizer/token_text.h"

namespace conclave::engine {
namespace {

// A text, or an object with the text as "content".
absl::StatusOr<std::string_view> TokenText(const JsonValue& value) {
  if (!value.IsObject()) return value.String();
  ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  ASSIGN_OR_RETURN(const JsonValue content, object.Get("content"));
  return content.String();
}

absl::Status ReadSpecialTokens(const JsonObject& config, VocabularyData* v) {
  const std::array<std::pair<const char*, std::optional<TokenId>*>, 3> names = {
      {{"bos_token", &v->bos}, {"eos_token", &v->eos}, {"pad_token", &v->padding}}};
  for (const auto& [name, id] : names) {
    const JsonValue* value = config.Find(name);
    if (value == nullptr || id->has_value()) continue;
    ASSIGN_OR_RETURN(const std::string_view text, TokenText(*value));
    const auto it = std::find(v->tokens.begin(), v->tokens.end(), text);
    if (it == v->tokens.end()) return value->Invalid(fmt::format("is \"{}\", which is no token", Shown(text)));
    *id = static_cast<TokenId>(it - v->tokens.begin());
  }
  return absl::OkStatus();
}

// The Llama classes of transformers build their post-processor anew from two flags; others do not read them.
absl::Status ReadLlamaMarks(const JsonObject& config, VocabularyData* v) {
  ASSIGN_OR_RETURN(const std::string_view name, config.StringOr("tokenizer_class", ""));
  if (!name.starts_with("LlamaTokenizer")) return absl::OkStatus();
  for (const bool begin : {true, false}) {
    const char* key = begin ? "add_bos_token" : "add_eos_token";
    if (!config.Has(key)) continue;
    ASSIGN_OR_RETURN(const bool add, config.BoolOr(key, false));
    const std::optional<TokenId> token = begin ? v->bos : v->eos;
    std::vector<TokenId>& marks = begin ? v->pipeline->prefix : v->pipeline->suffix;
    marks.clear();
    if (!add) continue;
    if (!token.has_value()) return config.Find(key)->Invalid("is true, but the token is not named");
    marks.push_back(*token);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadChatTemplate(const JsonObject& config) {
  const JsonValue* value = config.Find("chat_template");
  if (value == nullptr) return std::string();
  if (value->IsString()) {
    ASSIGN_OR_RETURN(const std::string_view text, value->String());
    return std::string(text);
  }
  ASSIGN_OR_RETURN(const std::vector<JsonValue> list, value->Array());
  for (const JsonValue& item : list) {
    ASSIGN_OR_RETURN(const JsonObject entry, item.Object());
    ASSIGN_OR_RETURN(const std::string_view name, entry.StringOr("name", ""));
    if (name != "default") continue;
    ASSIGN_OR_RETURN(const std::string_view text, entry.StringOr("template", ""));
    return std::string(text);
  }
  return value->Invalid("has no template of the name \"default\"");
}

}  // namespace

absl::Status ReadHfTokenizerConfig(const HfDirectory& directory, VocabularyData* vocabulary) {
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> config, directory.ReadJson("tokenizer_config.json"));
  if (config != nullptr) {
    ASSIGN_OR_RETURN(const JsonObject root, config->root().Object());
    RETURN_IF_ERROR(ReadSpecialTokens(root, vocabulary));
    RETURN_IF_ERROR(ReadLlamaMarks(root, vocabulary));
    ASSIGN_OR_RETURN(vocabulary->chat_template, ReadChatTemplate(root));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> map, directory.ReadJson("special_tokens_map.json"));
  if (map != nullptr) {
    ASSIGN_OR_RETURN(const JsonObject root, map->root().Object());
    RETURN_IF_ERROR(ReadSpecialTokens(root, vocabulary));
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> jinja, directory.ReadText("chat_template.jinja"));
  if (jinja.has_value()) vocabulary->chat_template = *jinja;
  const std::vector<TokenId>& prefix = vocabulary->pipeline->prefix;
  vocabulary->add_bos = vocabulary->bos.has_value() && !prefix.empty() && prefix.front() == *vocabulary->bos;
  return absl::OkStatus();
}

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
