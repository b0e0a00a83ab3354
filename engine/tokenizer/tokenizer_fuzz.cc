// SPDX-License-Identifier: Apache-2.0
// The input, up to a zero byte, is a text for tokenizers of both kinds; all of it is also read as a checkpoint. Text
// must come back as it was and never hold a special token.
#include <cstddef>
#include <cstdint>

#include <fmt/format.h>

#include "engine/format/gguf.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/read_tokenizer.h"
#include "engine/tokenizer/stream_decoder.h"

namespace {

using namespace conclave::engine;  // NOLINT(google-build-using-namespace): a program of one file

std::unique_ptr<Tokenizer> MakeTokenizer(TokenizerModel model, std::string pre) {
  VocabularyData v;
  v.source = "fuzz";
  v.model = model;
  v.pre = std::move(pre);
  const bool byte_level = model == TokenizerModel::kByteLevelBpe;
  const auto add = [&v](std::string text, TokenType type) {
    v.scores.push_back(-static_cast<float>(v.tokens.size()));
    v.tokens.push_back(std::move(text));
    v.types.push_back(type);
  };
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    if (byte_level) {
      add(EncodeByteLevel(std::string_view(&byte, 1)), TokenType::kNormal);
    } else {
      add(fmt::format("<0x{:02X}>", b), TokenType::kByte);
    }
  }
  for (const char* text : {"a", "b", "<", "|", "ab", "<|", "aab", "<|e", "\n\n"}) add(text, TokenType::kNormal);
  if (!byte_level) add("\xe2\x96\x81", TokenType::kNormal);  // real vocabularies can all write a space
  v.merges = {"a b", "< |", "a ab", "<| e", "\xc4\x8a \xc4\x8a"};
  add("<|e|>", TokenType::kControl);
  add("</s>", TokenType::kUserDefined);
  add("  ", TokenType::kUserDefined);
  auto tokenizer = Tokenizer::Create(std::move(v));
  if (!tokenizer.ok()) __builtin_trap();
  return *std::move(tokenizer);
}

void CheckText(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.Encode(text, Tokenizer::Special::kAsText, Tokenizer::AddBos::kNo);
  if (!ids.ok()) __builtin_trap();
  StreamDecoder stream(&tokenizer);
  std::string streamed;
  for (const TokenId id : *ids) {
    if (!tokenizer.Contains(id) || tokenizer.IsSpecial(id)) __builtin_trap();
    stream.Append(id, &streamed);
  }
  stream.Finish(&streamed);
  // U+2581 is how SentencePiece writes a space: the one thing that does not come back.
  const bool same = tokenizer.Decode(*ids, Tokenizer::SpecialText::kAsText) == text;
  if (!same && text.find("\xe2\x96\x81") == std::string_view::npos) __builtin_trap();
  if (!tokenizer.Encode(text, Tokenizer::Special::kParse, Tokenizer::AddBos::kNo).ok()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const tokenizers = new std::vector<std::unique_ptr<Tokenizer>>([] {
    std::vector<std::unique_ptr<Tokenizer>> made;
    for (const char* pre : {"gpt-2", "llama-bpe", "deepseek-llm", "gpt-4o", "default"}) {
      made.push_back(MakeTokenizer(TokenizerModel::kByteLevelBpe, pre));
    }
    made.push_back(MakeTokenizer(TokenizerModel::kSentencePieceBpe, ""));
    return made;
  }());
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const auto& tokenizer : *tokenizers) CheckText(*tokenizer, input.substr(0, input.find('\0')));
  const auto file = GgufFile::Parse("input", std::as_bytes(std::span(data, size)));
  if (!file.ok()) return 0;
  const auto tokenizer = ReadTokenizer(**file);
  if (!tokenizer.ok()) return 0;
  static_cast<void>(
      (*tokenizer)->Encode("a text <|e|> ab\n", Tokenizer::Special::kParse, Tokenizer::AddBos::kIfModelDoes));
  return 0;
}
