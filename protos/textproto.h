// SPDX-License-Identifier: Apache-2.0
// Textproto files as people write them: parsed strictly, with the line of every field, and with errors that say where
// and what to do. Untrusted input: bounded in size and nesting.
#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace conclave {

inline constexpr size_t kTextprotoBytesMax = 1 << 20;
inline constexpr int kTextprotoDepthMax = 64;

// Where the fields of one message stand in its text. Cheap to copy; valid as long as the ParsedText it came from. A
// default one (a message that came without text) knows no lines; one without a tree has the same line for everything.
class FieldLines {
 public:
  FieldLines() = default;
  FieldLines(const google::protobuf::TextFormat::ParseInfoTree* tree, int line) : tree_(tree), line_(line) {}

  // Line, from 1, of the message itself, or of a field; 0 when there is none. A field that is absent from the text has
  // the line of its message.
  int line() const { return line_; }
  int LineOf(const google::protobuf::Message& message, std::string_view field, int index = -1) const;
  // The lines inside a message field; `index` for repeated ones.
  FieldLines In(const google::protobuf::Message& message, std::string_view field, int index = -1) const;

 private:
  const google::protobuf::TextFormat::ParseInfoTree* tree_ = nullptr;
  int line_ = 0;
};

struct TextError {
  int line = 0;  // from 1; 0: the file as a whole
  std::string message;
};

// What was parsed of a text, beside the message itself.
struct ParsedText {
  std::unique_ptr<google::protobuf::TextFormat::ParseInfoTree> tree;  // never null
  std::vector<TextError> errors;                                      // empty: the message is complete
  FieldLines lines() const { return FieldLines(tree.get(), 1); }
};

// Parses `text` into `message`. Unknown fields, repeated singular fields and values out of range are errors.
ParsedText ParseTextproto(std::string_view text, google::protobuf::Message* message);

// The name of `candidates` nearest to `name`, or "" when none is near (at most a third of its letters differ). The
// result is a view of its candidate.
std::string_view Nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace conclave
