// SPDX-License-Identifier: Apache-2.0
// Text: a string that knows which of its bytes a user wrote.
//
// A prompt mixes the words of a template (which may name special tokens) with words of users and of other models
// (which may not). Every string operation of the engine carries the user ranges along, so the finished prompt says
// exactly, or too generously but never too narrowly, where user bytes lie.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::jinja {

// Bytes [begin, end) of a string.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

struct Text {
  std::string bytes;            // UTF-8
  std::vector<ByteRange> user;  // sorted, disjoint, not touching, none empty
  bool markup = false;          // result of `safe` or `escape`: joins escape their other side
};

// Text all of whose bytes are the user's.
Text MakeUserText(std::string bytes);

// Bytes [begin, end) of `text`, with their ranges.
Text Substring(const Text& text, size_t begin, size_t end);

// `bytes` derived from `origin` in a way that moves bytes about (case mapping, formatting): all of it counts as the
// user's as soon as any byte of the origin did.
Text DerivedText(std::string bytes, const Text& origin);

// Collects text piece by piece.
class TextBuilder {
 public:
  void Append(std::string_view literal) { bytes_.append(literal); }
  void Append(const std::string& literal) { bytes_.append(literal); }
  void Append(const char* literal) { bytes_.append(literal); }
  void Append(const Text& text) { Append(text, 0, text.bytes.size()); }
  void Append(const Text& text, size_t begin, size_t end);
  void Append(char byte) { bytes_.push_back(byte); }
  void AppendUser(std::string_view bytes);
  void AppendRepeated(const Text& text, size_t count);
  void Reserve(size_t bytes) { bytes_.reserve(bytes); }

  size_t size() const { return bytes_.size(); }
  const std::string& bytes() const { return bytes_; }
  Text Take() { return Text{std::move(bytes_), std::move(user_), false}; }

 private:
  void AddRange(size_t begin, size_t end);

  std::string bytes_;
  std::vector<ByteRange> user_;
};

}  // namespace conclave::jinja
