// SPDX-License-Identifier: Apache-2.0
// Any text as tokenizer.json: an error, or a tokenizer that takes and gives any text.
#include <cstddef>
#include <cstdint>

#include "engine/tokenizer/hf_vocabulary.h"
#include "engine/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace engine = conclave::engine;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto document = engine::JsonDocument::Parse("input", text);
  if (!document.ok()) return 0;
  auto vocabulary = engine::ReadHfVocabulary(**document);
  if (!vocabulary.ok()) return 0;
  const auto tokenizer = engine::Tokenizer::Create(*std::move(vocabulary));
  if (!tokenizer.ok()) return 0;
  for (const std::string_view sample : {std::string_view("the 12 \xe6\xbc\xa2\xff [L] \n"), text.substr(0, 64)}) {
    const auto ids =
        (*tokenizer)->Encode(sample, engine::Tokenizer::Special::kParse, engine::Tokenizer::AddBos::kIfModelDoes);
    if (!ids.ok()) continue;
    for (const engine::TokenId id : *ids) {
      if (!(*tokenizer)->Contains(id)) __builtin_trap();
    }
    (*tokenizer)->Decode(*ids, engine::Tokenizer::SpecialText::kAsText);
  }
  return 0;
}
