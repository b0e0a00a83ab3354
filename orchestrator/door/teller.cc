// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/teller.h"

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

// How the beginning of some bytes is shown.
struct Shown {
  size_t bytes = 1;   // of it; of what is no UTF-8 the longest part that could have begun a character (Unicode 15, 3-8)
  bool valid = true;  // else it is shown as U+FFFD
  bool unfinished = false;  // not yet: the bytes to come may complete it
};

// REQUIRES !text.empty().
Shown FirstCharacter(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {};
  if (first < 0xC2 || first > 0xF4) return {1, false, false};
  const size_t whole = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  for (size_t i = 1; i < whole; ++i) {
    if (i == text.size()) return {i, false, true};
    const bool second = i == 1;
    const unsigned char low = second && first == 0xE0 ? 0xA0 : second && first == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = second && first == 0xED ? 0x9F : second && first == 0xF4 ? 0x8F : 0xBF;
    if (byte(i) < low || byte(i) > high) return {i, false, false};
  }
  return {whole, true, false};
}

constexpr int64_t kReplacementBytes = 3;  // of U+FFFD

}  // namespace

void Teller::Hear(const inference::v1::Logprobs& token) {
  if (!listener_.wants_tokens) return;
  heard_any_ = true;
  Heard& heard = heard_.emplace_back();
  heard.token = {token, heard_characters_};
  heard.begin = heard_bytes_;
  if (!token.chosen().hidden()) {
    unfinished_ += token.chosen().text();
    std::string_view rest = unfinished_;
    while (!rest.empty()) {
      const Shown next = FirstCharacter(rest);
      if (next.unfinished) break;
      heard_bytes_ += next.valid ? static_cast<int64_t>(next.bytes) : kReplacementBytes;
      ++heard_characters_;
      rest.remove_prefix(next.bytes);
    }
    unfinished_ = std::string(rest);
  }
  heard.end = heard_bytes_;
}

std::vector<SpokenToken> Teller::Take(bool last) {
  std::vector<SpokenToken> out;
  while (!heard_.empty()) {
    const Heard& next = heard_.front();  // one that adds nothing waits for what follows it
    if (next.begin >= said_bytes_ || (!last && next.end > said_bytes_)) break;
    out.push_back(std::move(heard_.front().token));
    heard_.pop_front();
  }
  return out;
}

void Teller::Say(std::string_view text) {
  said_bytes_ += std::ssize(text);
  listener_.mailbox->Say(listener_.choice, text, Take(/*last=*/false));
}

absl::Status Teller::Finish() {
  listener_.mailbox->Say(listener_.choice, "", Take(/*last=*/true));
  if (!listener_.wants_tokens || heard_any_ || said_bytes_ == 0) return absl::OkStatus();
  return Unavailable("the member's server told no log-probabilities, which it is declared to tell");
}

}  // namespace conclave::orchestrator
