// SPDX-License-Identifier: Apache-2.0
// A generation's tokens to its text, one at a time, whole characters only.
#pragma once

#include <string>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace conclave::engine {

// Whether a token of a generation is seen in its text: control and unknown ones and ids outside the vocabulary are not.
bool IsShown(const Tokenizer& tokenizer, TokenId token);

// For the continuation of a prompt: no leading space is taken away. One per sequence; not thread-safe. The tokenizer
// outlives it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

  // Appends to `out` what became certain with `token`: valid UTF-8; the first bytes of a character wait for the rest.
  // Tokens that are not shown add nothing.
  void Append(TokenId token, std::string* out);
  // The generation has ended: an unfinished character becomes U+FFFD.
  void Finish(std::string* out) { utf8_.Finish(out); }

 private:
  const Tokenizer* tokenizer_;
  Utf8Stream utf8_;
};

}  // namespace conclave::engine
