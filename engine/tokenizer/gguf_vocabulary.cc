// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/gguf_vocabulary.h"

#include "common/status.h"
#include "engine/tokenizer/pretokenizer.h"

namespace conclave::engine {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

std::string Key(std::string_view name) { return std::string(kPrefix).append(name); }

template <typename... Args>
absl::Status Error(const GgufFile& file, fmt::format_string<Args...> format, Args&&... args) {
  return FailedPrecondition("MODEL_FILE_INVALID {}: {}", file.path(), fmt::format(format, std::forward<Args>(args)...));
}

// Absent, or "none" written as -1 in 32 unsigned bits.
absl::StatusOr<std::optional<TokenId>> ReadId(const GgufFile& file, std::string_view name) {
  const std::string key = Key(name);
  if (!file.Has(key)) return std::nullopt;
  ASSIGN_OR_RETURN(const uint32_t id, file.GetU32(key));
  if (id == UINT32_MAX) return std::nullopt;
  if (id >= kVocabularyTokensMax) return Error(file, "key \"{}\" is {}, which is no token", key, id);
  return static_cast<TokenId>(id);
}

absl::Status ReadTokens(const GgufFile& file, VocabularyData* v) {
  ASSIGN_OR_RETURN(const std::span<const std::string_view> tokens, file.GetStrings(Key("tokens")));
  v->tokens.assign(tokens.begin(), tokens.end());
  if (file.Has(Key("token_type"))) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> types, file.GetI32s(Key("token_type")));
    for (size_t i = 0; i < types.size(); ++i) {
      if (types[i] < static_cast<int32_t>(TokenType::kNormal) || types[i] > static_cast<int32_t>(TokenType::kByte)) {
        return Error(file, "key \"{}\" holds {} for token {}, 1 to 6 allowed", Key("token_type"), types[i], i);
      }
      v->types.push_back(static_cast<TokenType>(types[i]));
    }
  } else if (v->model == TokenizerModel::kByteLevelBpe) {
    v->types.assign(v->tokens.size(), TokenType::kNormal);
  } else {
    return Error(file, "key \"{}\" is missing; a SentencePiece vocabulary needs it", Key("token_type"));
  }
  return absl::OkStatus();
}

absl::Status ReadByteLevel(const GgufFile& file, VocabularyData* v) {
  ASSIGN_OR_RETURN(const std::span<const std::string_view> merges, file.GetStrings(Key("merges")));
  v->merges.assign(merges.begin(), merges.end());
  ASSIGN_OR_RETURN(const std::string_view pre, file.GetStringOr(Key("pre"), "default"));
  v->pre = pre;
  const absl::StatusOr<const PretokenizerSpec*> spec = FindPretokenizer(v->pre);
  if (!spec.ok()) return Error(file, "key \"{}\": {}", Key("pre"), Message(spec.status()));
  ASSIGN_OR_RETURN(v->add_bos, file.GetBoolOr(Key("add_bos_token"), (*spec)->add_bos && v->bos.has_value()));
  return absl::OkStatus();
}

absl::Status ReadSentencePiece(const GgufFile& file, VocabularyData* v) {
  ASSIGN_OR_RETURN(v->scores, file.GetF32s(Key("scores")));
  ASSIGN_OR_RETURN(v->add_bos, file.GetBoolOr(Key("add_bos_token"), v->bos.has_value()));
  ASSIGN_OR_RETURN(v->add_space_prefix, file.GetBoolOr(Key("add_space_prefix"), true));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<VocabularyData> ReadVocabulary(const GgufFile& file) {
  VocabularyData v;
  v.source = file.path();
  ASSIGN_OR_RETURN(const std::string_view model, file.GetString(Key("model")));
  if (model != "gpt2" && model != "llama") {
    return Error(file,
                 "key \"{}\" is \"{}\"; supported are \"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece BPE)",
                 Key("model"), model);
  }
  v.model = model == "gpt2" ? TokenizerModel::kByteLevelBpe : TokenizerModel::kSentencePieceBpe;
  RETURN_IF_ERROR(ReadTokens(file, &v));
  ASSIGN_OR_RETURN(v.bos, ReadId(file, "bos_token_id"));
  ASSIGN_OR_RETURN(v.eos, ReadId(file, "eos_token_id"));
  ASSIGN_OR_RETURN(v.eot, ReadId(file, "eot_token_id"));
  ASSIGN_OR_RETURN(v.eom, ReadId(file, "eom_token_id"));
  ASSIGN_OR_RETURN(v.unknown, ReadId(file, "unknown_token_id"));
  ASSIGN_OR_RETURN(v.padding, ReadId(file, "padding_token_id"));
  ASSIGN_OR_RETURN(v.add_eos, file.GetBoolOr(Key("add_eos_token"), false));
  RETURN_IF_ERROR(v.model == TokenizerModel::kByteLevelBpe ? ReadByteLevel(file, &v) : ReadSentencePiece(file, &v));
  ASSIGN_OR_RETURN(const std::string_view chat_template, file.GetStringOr("tokenizer.chat_template", ""));
  v.chat_template = chat_template;
  return v;
}

}  // namespace conclave::engine
