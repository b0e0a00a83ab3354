// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/hf_vocabulary.h"

#include <algorithm>

#include "common/status.h"
#include "engine/tokenizer/hf_pipeline.h"
#include "engine/tokenizer/hf_tokens.h"
#include "engine/tokenizer/token_text.h"

namespace conclave::engine {
namespace {

// Ids of no token that a vocabulary may have.
constexpr size_t kUnusedIdsMax = 1 << 16;

absl::Status PlaceToken(const JsonValue& value, int64_t id, std::string_view text, size_t limit, VocabularyData* v) {
  if (static_cast<size_t>(id) >= limit)
    return value.Invalid(fmt::format("leaves more than {} ids unused", kUnusedIdsMax));
  if (static_cast<size_t>(id) >= v->tokens.size()) {
    v->tokens.resize(static_cast<size_t>(id) + 1);
    v->types.resize(v->tokens.size(), TokenType::kUnused);
    v->pipeline->in_merges.resize(v->tokens.size(), false);
  }
  std::string& place = v->tokens[static_cast<size_t>(id)];
  if (!place.empty() && place != text) {
    return value.Invalid(
        fmt::format("gives token {} the text \"{}\", which is \"{}\" already", id, Shown(text), Shown(place)));
  }
  place = text;
  return absl::OkStatus();
}

absl::Status ReadVocab(const JsonObject& model, bool byte_fallback, VocabularyData* v) {
  ASSIGN_OR_RETURN(const JsonValue vocab_value, model.Get("vocab"));
  ASSIGN_OR_RETURN(const JsonObject vocab, vocab_value.Object());
  if (vocab.members().size() > kVocabularyTokensMax) {
    return vocab_value.Invalid(
        fmt::format("has {} tokens, at most {} allowed", vocab.members().size(), kVocabularyTokensMax));
  }
  const size_t limit = vocab.members().size() + kUnusedIdsMax;
  for (const auto& [text, value] : vocab.members()) {
    ASSIGN_OR_RETURN(const int64_t id, value.Integer(0, kVocabularyTokensMax - 1));
    RETURN_IF_ERROR(PlaceToken(value, id, text, limit, v));
    const bool byte = byte_fallback && ParseByteToken(text) >= 0;
    v->types[static_cast<size_t>(id)] = byte ? TokenType::kByte : TokenType::kNormal;
    v->pipeline->in_merges[static_cast<size_t>(id)] = true;
  }
  return absl::OkStatus();
}

// "left right", or ["left", "right"].
absl::Status ReadMerges(const JsonObject& model, VocabularyData* v) {
  ASSIGN_OR_RETURN(const JsonValue merges_value, model.Get("merges"));
  ASSIGN_OR_RETURN(const std::vector<JsonValue> merges, merges_value.Array());
  v->merges.reserve(merges.size());
  for (const JsonValue& merge : merges) {
    if (merge.IsString()) {
      ASSIGN_OR_RETURN(const std::string_view text, merge.String());
      v->merges.emplace_back(text);
      continue;
    }
    ASSIGN_OR_RETURN(const std::vector<JsonValue> pair, merge.Array());
    if (pair.size() != 2) return merge.Invalid(fmt::format("has {} pieces, 2 expected", pair.size()));
    ASSIGN_OR_RETURN(const std::string_view left, pair[0].String());
    ASSIGN_OR_RETURN(const std::string_view right, pair[1].String());
    if (left.empty() || right.empty() || left.find(' ') != std::string_view::npos ||
        right.find(' ') != std::string_view::npos) {
      return merge.Invalid("has a piece that is empty or holds a space");
    }
    v->merges.push_back(std::string(left).append(1, ' ').append(right));
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const JsonObject& root, VocabularyData* v) {
  const JsonValue* list = root.Find("added_tokens");
  if (list == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<JsonValue> tokens, list->Array());
  const size_t limit = v->tokens.size() + tokens.size() + kUnusedIdsMax;
  for (const JsonValue& value : tokens) {
    ASSIGN_OR_RETURN(const JsonObject token, value.Object());
    ASSIGN_OR_RETURN(const JsonValue id_value, token.Get("id"));
    ASSIGN_OR_RETURN(const int64_t id, id_value.Integer(0, kVocabularyTokensMax - 1));
    ASSIGN_OR_RETURN(const JsonValue content_value, token.Get("content"));
    ASSIGN_OR_RETURN(const std::string_view content, content_value.String());
    if (content.empty()) return content_value.Invalid("is empty");
    RETURN_IF_ERROR(PlaceToken(value, id, content, limit, v));
    ASSIGN_OR_RETURN(const bool special, token.BoolOr("special", false));
    AddedToken added = {.id = static_cast<TokenId>(id)};
    ASSIGN_OR_RETURN(added.left_space, token.BoolOr("lstrip", false));
    ASSIGN_OR_RETURN(added.right_space, token.BoolOr("rstrip", false));
    ASSIGN_OR_RETURN(added.single_word, token.BoolOr("single_word", false));
    ASSIGN_OR_RETURN(added.normalized, token.BoolOr("normalized", !special));
    v->types[static_cast<size_t>(id)] = special ? TokenType::kControl : TokenType::kUserDefined;
    v->pipeline->added.push_back(added);
  }
  return absl::OkStatus();
}

// What would change the result and is not computed.
absl::Status RefuseOptions(const JsonObject& root, const JsonObject& model) {
  ASSIGN_OR_RETURN(const double dropout, model.NumberOr("dropout", 0));
  if (dropout != 0)
    return Unimplemented("{}: \"model.dropout\" is {}: merges left out at random", root.self().file(), dropout);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    ASSIGN_OR_RETURN(const std::string_view text, model.StringOr(key, ""));
    if (!text.empty())
      return Unimplemented("{}: \"model.{}\" is \"{}\", not supported", root.self().file(), key, Shown(text));
  }
  for (const char* key : {"truncation", "padding"}) {
    if (root.Has(key))
      return Unimplemented("{}: \"{}\" is set, which would change every text", root.self().file(), key);
  }
  return absl::OkStatus();
}

absl::Status FindUnknown(const JsonObject& model, VocabularyData* v) {
  const JsonValue* value = model.Find("unk_token");
  if (value == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string_view text, value->String());
  const auto it = std::find(v->tokens.begin(), v->tokens.end(), text);
  if (it == v->tokens.end()) return value->Invalid(fmt::format("is \"{}\", which is no token", Shown(text)));
  v->unknown = static_cast<TokenId>(it - v->tokens.begin());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<VocabularyData> ReadHfVocabulary(const JsonDocument& tokenizer) {
  ASSIGN_OR_RETURN(const JsonObject root, tokenizer.root().Object());
  ASSIGN_OR_RETURN(const JsonValue model_value, root.Get("model"));
  ASSIGN_OR_RETURN(const JsonObject model, model_value.Object());
  ASSIGN_OR_RETURN(const std::string_view type, model.StringOr("type", "BPE"));
  if (type != "BPE") return Unimplemented("{}: the model is \"{}\"; known is BPE", root.self().file(), type);
  RETURN_IF_ERROR(RefuseOptions(root, model));
  VocabularyData v;
  v.source = root.self().file();
  v.pipeline.emplace();
  ASSIGN_OR_RETURN(const bool byte_fallback, model.BoolOr("byte_fallback", false));
  ASSIGN_OR_RETURN(v.pipeline->whole_words_first, model.BoolOr("ignore_merges", false));
  ASSIGN_OR_RETURN(v.pipeline->fuse_unknown, model.BoolOr("fuse_unk", false));
  RETURN_IF_ERROR(ReadHfNormalizer(root, &*v.pipeline));
  ASSIGN_OR_RETURN(const HfSplit split, ReadHfPreTokenizer(root, &*v.pipeline));
  v.model = split.byte_level ? TokenizerModel::kByteLevelBpe : TokenizerModel::kCharacterBpe;
  RETURN_IF_ERROR(ReadHfPostProcessor(root, &*v.pipeline));
  RETURN_IF_ERROR(ReadHfDecoder(root, split.byte_level, byte_fallback, &*v.pipeline));
  RETURN_IF_ERROR(ReadVocab(model, byte_fallback, &v));
  RETURN_IF_ERROR(ReadMerges(model, &v));
  RETURN_IF_ERROR(ReadAddedTokens(root, &v));
  RETURN_IF_ERROR(FindUnknown(model, &v));
  return v;
}

absl::StatusOr<VocabularyData> ReadHfVocabulary(const HfDirectory& directory) {
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> tokenizer, directory.ReadJson("tokenizer.json"));
  if (tokenizer == nullptr) {
    return NotFound("{}: no tokenizer.json, without which text cannot become tokens", directory.path());
  }
  ASSIGN_OR_RETURN(VocabularyData vocabulary, ReadHfVocabulary(*tokenizer));
  RETURN_IF_ERROR(ReadHfTokenizerConfig(directory, &vocabulary));
  ASSIGN_OR_RETURN(vocabulary.ends, ReadHfEndTokens(directory));
  // Configurations name end tokens of the embedding that the tokenizer may not have.
  const auto tokens = static_cast<TokenId>(vocabulary.tokens.size());
  std::erase_if(vocabulary.ends, [&](TokenId id) { return id >= tokens; });
  return vocabulary;
}

}  // namespace conclave::engine
