// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/token_text.h"

#include <algorithm>
#include <array>

#include "engine/tokenizer/utf8.h"

namespace conclave::engine {
namespace {

constexpr std::array<std::string_view, 16> kEndNames = {"<|eot_id|>",
                                                        "<|im_end|>",
                                                        "<|end|>",
                                                        "<|eot|>",
                                                        "<end_of_turn>",
                                                        "<|endoftext|>",
                                                        "<|eom_id|>",
                                                        "<EOT>",
                                                        "_<EOT>",
                                                        "<|end_of_text|>",
                                                        "<|return|>",
                                                        "<|call|>",
                                                        "<|EOT|>",
                                                        "<|END_OF_TURN_TOKEN|>",
                                                        "<end_of_utterance>",
                                                        "<\xef\xbd\x9c"
                                                        "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"};

// Tags of text markup that some vocabularies (Gemma) have as user-defined tokens: ordinary text, not markers.
constexpr std::array<std::string_view, 24> kMarkupTags = {
    "table", "caption", "thead", "tbody", "tfoot", "tr", "th",     "td",         "h1",  "h2",  "h3",   "h4",
    "h5",    "h6",      "b",     "i",     "u",     "em", "strong", "blockquote", "sub", "sup", "code", "br"};

bool IsMarkup(std::string_view text) {
  text.remove_prefix(text.starts_with("</") ? 2 : 1);
  text.remove_suffix(1);
  return std::find(kMarkupTags.begin(), kMarkupTags.end(), text) != kMarkupTags.end();
}

}  // namespace

std::span<const std::string_view> EndTokenNames() { return kEndNames; }

bool IsMarker(std::string_view text) {
  if (text.size() < 3) return false;
  if (text.front() == '<' && text.back() == '>') return !IsMarkup(text);
  return text.front() == '[' && text.back() == ']' &&
         std::none_of(text.begin(), text.end(), [](char c) { return (c >= 'a' && c <= 'z') || c == ' '; });
}

std::string ReplaceSpaceMarks(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    if (text.starts_with(kSpaceMark)) {
      out += ' ';
      text.remove_prefix(kSpaceMark.size());
    } else {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  return out;
}

int ParseByteToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

std::string Shown(std::string_view text) {
  constexpr size_t kShownMax = 48;
  std::string out;
  for (const char c : text.substr(0, kShownMax)) {
    out += static_cast<uint8_t>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  std::string valid;
  Utf8Stream stream;
  stream.Append(out, &valid);
  stream.Finish(&valid);
  return text.size() > kShownMax ? valid + ".." : valid;
}

}  // namespace conclave::engine
