// SPDX-License-Identifier: Apache-2.0
// What one choice tells its caller: text as it is spoken and, where wanted, the tokens that it is made of.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "orchestrator/door/mailbox.h"

namespace conclave::orchestrator {

// Whose words, and where to.
struct Listener {
  std::shared_ptr<Mailbox> mailbox;
  int32_t choice = 0;
  bool wants_tokens = false;
};

// A token is told when the text it adds has been, and never where that lies behind the end of the text, as stop texts
// and the end of a turn do. Tokens are heard in order and ahead of their text or with it. Not thread-safe.
class Teller {
 public:
  explicit Teller(Listener listener) : listener_(std::move(listener)) {}

  // The next token of the text. Nothing where tokens are not wanted.
  void Hear(const inference::v1::Logprobs& token);
  void Say(std::string_view text);
  // The text is over. UNAVAILABLE where tokens are wanted and none was heard of a text.
  absl::Status Finish();
  // Last.
  void End(SpokenEnd end) { listener_.mailbox->End(listener_.choice, std::move(end)); }

 private:
  // Where a token's bytes begin and end in the text, invalid ones being U+FFFD there; the first bytes of a character
  // are not counted until it is whole.
  struct Heard {
    SpokenToken token;
    int64_t begin = 0, end = 0;
  };
  std::vector<SpokenToken> Take(bool last);

  const Listener listener_;
  std::deque<Heard> heard_;
  std::string unfinished_;  // first bytes of a character
  int64_t heard_bytes_ = 0, heard_characters_ = 0;
  int64_t said_bytes_ = 0;
  bool heard_any_ = false;
};

}  // namespace conclave::orchestrator
