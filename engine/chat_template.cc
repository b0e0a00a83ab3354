// SPDX-License-Identifier: Apache-2.0
#include "engine/chat_template.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/jinja/json.h"
#include "common/status.h"

namespace conclave::engine {
namespace {

absl::StatusOr<jinja::Template> Parse(const std::string& source) {
  if (source.empty()) {
    return FailedPrecondition("CHAT_TEMPLATE_MISSING: the model file has no chat template; send text or token ids");
  }
  return jinja::Template::Parse(source);
}

// What lies between the user's ranges: the template's own text.
std::vector<ByteRange> Trusted(size_t size, std::span<const jinja::ByteRange> user) {
  std::vector<ByteRange> trusted;
  size_t begin = 0;
  for (const jinja::ByteRange& range : user) {
    if (range.begin > begin) trusted.push_back({begin, range.begin});
    begin = range.end;
  }
  if (size > begin) trusted.push_back({begin, size});
  return trusted;
}

}  // namespace

ChatTemplate::ChatTemplate(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer), template_(Parse(tokenizer.chat_template())) {}

ChatTemplate::Variables ChatTemplate::TokenVariables() const {
  const VocabularyData& v = tokenizer_.vocabulary();
  const auto text_of = [this](std::optional<TokenId> token) {
    return jinja::Value::String(token.has_value() ? std::string(tokenizer_.TokenText(*token)) : "");
  };
  Variables variables = {{"bos_token", text_of(v.bos)}, {"eos_token", text_of(v.eos)}};
  if (v.unknown.has_value()) variables.emplace_back("unk_token", text_of(v.unknown));
  if (v.padding.has_value()) variables.emplace_back("pad_token", text_of(v.padding));
  return variables;
}

absl::StatusOr<ChatPrompt> ChatTemplate::Render(std::span<const ChatMessage> messages, bool add_generation_prompt,
                                                int64_t now_unix_seconds) const {
  if (messages.empty()) return InvalidArgument("messages: a chat must have at least one");
  using jinja::Value;
  std::vector<Value> list;
  for (const ChatMessage& message : messages) {
    list.push_back(
        Value::Object({{"role", Value::UserText(message.role)}, {"content", Value::UserText(message.content)}}));
  }
  Variables variables = TokenVariables();
  variables.emplace_back("messages", Value::List(std::move(list)));
  variables.emplace_back("add_generation_prompt", Value::Bool(add_generation_prompt));
  return RenderWith(std::move(variables), now_unix_seconds);
}

absl::StatusOr<ChatPrompt> ChatTemplate::RenderJson(std::string_view variables_json, int64_t now_unix_seconds) const {
  const auto json = nlohmann::ordered_json::parse(variables_json, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return InvalidArgument("the template's variables must be one JSON object");
  Variables variables = TokenVariables();
  for (const auto& [name, value] : json.items()) {
    ASSIGN_OR_RETURN(jinja::Value converted, jinja::FromJson(value, jinja::Author::kUser));
    variables.emplace_back(name, std::move(converted));
  }
  return RenderWith(std::move(variables), now_unix_seconds);
}

absl::StatusOr<ChatPrompt> ChatTemplate::RenderWith(Variables variables, int64_t now_unix_seconds) const {
  RETURN_IF_ERROR(template_.status());
  ASSIGN_OR_RETURN(jinja::Rendered rendered, template_->Render(jinja::Value::Object(std::move(variables)),
                                                               {.now_unix_seconds = now_unix_seconds, .limits = {}}));
  const std::vector<ByteRange> trusted = Trusted(rendered.text.size(), rendered.user_ranges);
  // The template writes the begin token where the model wants one.
  ASSIGN_OR_RETURN(std::vector<TokenId> tokens, tokenizer_.Encode(rendered.text, trusted, Tokenizer::AddBos::kNo));
  return ChatPrompt{std::move(rendered.text), std::move(tokens)};
}

}  // namespace conclave::engine
