// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler/stop_matcher.h"

#include <algorithm>

#include "common/status.h"

namespace conclave::engine {
namespace {

// A string that begins with a continuation byte, or ends inside a character, could cut a character in two.
bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t j) { return j < text.size() ? static_cast<uint8_t>(text[j]) : 0u; };
    const uint32_t first = byte(i);
    const size_t length = first < 0x80 ? 1 : first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : 4;
    if (length == 4 && (first < 0xF0 || first > 0xF4)) return false;
    for (size_t j = 1; j < length; ++j) {
      if ((byte(i + j) & 0xC0) != 0x80) return false;
    }
    if ((first == 0xE0 && byte(i + 1) < 0xA0) || (first == 0xED && byte(i + 1) > 0x9F) ||
        (first == 0xF0 && byte(i + 1) < 0x90) || (first == 0xF4 && byte(i + 1) > 0x8F)) {
      return false;
    }
    i += length;
  }
  return true;
}

std::vector<uint32_t> Fallback(std::string_view text) {
  std::vector<uint32_t> fallback(text.size() + 1, 0);
  uint32_t length = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = fallback[length];
    if (text[i] == text[length]) ++length;
    fallback[i + 1] = length;
  }
  return fallback;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const StopStrings>> StopStrings::Create(std::vector<std::string> strings) {
  if (strings.size() > kStopMatcherStringsMax) {
    return InvalidArgument("{} stop strings, at most {} allowed", strings.size(), kStopMatcherStringsMax);
  }
  for (size_t i = 0; i < strings.size(); ++i) {
    if (strings[i].empty()) return InvalidArgument("stop string {} is empty", i);
    if (strings[i].size() > kStopMatcherStringBytesMax) {
      return InvalidArgument("stop string {} has {} bytes, at most {} allowed", i, strings[i].size(),
                             kStopMatcherStringBytesMax);
    }
    if (!IsUtf8(strings[i])) return InvalidArgument("stop string {} is not valid UTF-8", i);
  }
  std::shared_ptr<StopStrings> result(new StopStrings());
  for (const std::string& text : strings) result->fallback_.push_back(Fallback(text));
  result->strings_ = std::move(strings);
  return result;
}

const std::string* StopMatcher::Append(std::string_view text, std::string* out) {
  for (const char byte : text) {
    const std::string* match = nullptr;
    uint32_t longest = 0;
    for (size_t i = 0; i < matched_.size(); ++i) {
      const std::string& stop = strings_->strings_[i];
      uint32_t& n = matched_[i];
      while (n > 0 && stop[n] != byte) n = strings_->fallback_[i][n];
      if (stop[n] == byte) ++n;
      longest = std::max(longest, n);
      if (n == stop.size() && (match == nullptr || stop.size() > match->size())) match = &stop;
    }
    held_.push_back(byte);
    if (match != nullptr) {
      out->append(held_, 0, held_.size() - match->size());
      held_.clear();
      return match;
    }
    // At most one byte more was held than before, so this moves what has just become certain.
    if (held_.size() > longest) {
      out->append(held_, 0, held_.size() - longest);
      held_.erase(0, held_.size() - longest);
    }
  }
  return nullptr;
}

void StopMatcher::Finish(std::string* out) {
  out->append(held_);
  held_.clear();
}

}  // namespace conclave::engine
