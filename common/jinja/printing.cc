// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/printing.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/jinja/numbers.h"
#include "common/jinja/operators.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

constexpr char kHex[] = "0123456789abcdef";

void AppendHex(char32_t value, int digits, std::string* out) {
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) out->push_back(kHex[(value >> shift) & 0xF]);
}

char QuoteFor(std::string_view text) {
  return text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
}

// The escape of `c` inside repr, or "" when it stands for itself.
std::string ReprEscape(char32_t c, char quote) {
  std::string out;
  if (c == static_cast<unsigned char>(quote) || c == '\\') {
    out = {'\\', static_cast<char>(c)};
  } else if (c == '\n') {
    out = "\\n";
  } else if (c == '\r') {
    out = "\\r";
  } else if (c == '\t') {
    out = "\\t";
  } else if (!IsPrintable(c)) {
    out = c < 0x100 ? "\\x" : c < 0x10000 ? "\\u" : "\\U";
    AppendHex(c, c < 0x100 ? 2 : c < 0x10000 ? 4 : 8, &out);
  }
  return out;
}

// The escape of `c` inside a JSON string, or "".
std::string JsonEscape(char32_t c, bool ensure_ascii) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      break;
  }
  std::string out;
  if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
    if (c == 0x7F) return "";
    out = "\\u";
    AppendHex(c, 4, &out);
  } else if (ensure_ascii && c >= 0x10000) {
    out = "\\u";
    AppendHex(0xD800 + ((c - 0x10000) >> 10), 4, &out);
    out += "\\u";
    AppendHex(0xDC00 + ((c - 0x10000) & 0x3FF), 4, &out);
  }
  return out;
}

// Bytes that stand for themselves in every notation below: printable ASCII but for the marks some notation escapes.
bool NeverEscaped(char byte) {
  static constexpr auto kTable = [] {
    std::array<bool, 256> table{};
    for (size_t c = 0x20; c < 0x7F; ++c) table[c] = true;
    for (const char c : {'"', '\'', '\\', '<', '>', '&'}) table[static_cast<size_t>(c)] = false;
    return table;
  }();
  return kTable[static_cast<unsigned char>(byte)];
}

// Appends `text` with some code points escaped; escapes of user bytes are the user's.
template <typename Escape>
void AppendEscaped(const Text& text, Escape&& escape, TextBuilder* out) {
  size_t plain = 0;
  auto range = text.user.begin();
  for (size_t at = 0; at < text.bytes.size();) {
    if (NeverEscaped(text.bytes[at])) {
      ++at;
      continue;
    }
    const CodePoint c = DecodeAt(text.bytes, at);
    const std::string escaped = escape(c.value);
    if (!escaped.empty()) {
      out->Append(text, plain, at);
      while (range != text.user.end() && range->end <= at) ++range;
      const bool user = range != text.user.end() && range->begin <= at;
      user ? out->AppendUser(escaped) : out->Append(escaped);
      plain = at + c.bytes;
    }
    at += c.bytes;
  }
  out->Append(text, plain, text.bytes.size());
}

absl::Status AppendSequenceRepr(Runtime& runtime, const Sequence& sequence, TextBuilder* out) {
  struct Frame {
    std::string_view open, close;
  };
  Frame frame{"[", "]"};
  if (sequence.flavor == Sequence::Flavor::kTuple || sequence.flavor == Sequence::Flavor::kGroup) {
    frame = {"(", sequence.items.size() == 1 ? ",)" : ")"};
  }
  if (sequence.flavor == Sequence::Flavor::kDictKeys) frame = {"dict_keys([", "])"};
  if (sequence.flavor == Sequence::Flavor::kDictValues) frame = {"dict_values([", "])"};
  if (sequence.flavor == Sequence::Flavor::kDictItems) frame = {"dict_items([", "])"};
  out->Append(frame.open);
  for (size_t i = 0; i < sequence.items.size(); ++i) {
    if (i > 0) out->Append(", ");
    RETURN_IF_ERROR(AppendRepr(runtime, sequence.items[i], out));
  }
  out->Append(frame.close);
  return absl::OkStatus();
}

absl::Status AppendDictRepr(Runtime& runtime, const Dict& dict, TextBuilder* out) {
  out->Append('{');
  bool first = true;
  for (const Dict::Entry& entry : dict.entries()) {
    if (!first) out->Append(", ");
    first = false;
    RETURN_IF_ERROR(AppendRepr(runtime, entry.key, out));
    out->Append(": ");
    RETURN_IF_ERROR(AppendRepr(runtime, entry.value, out));
  }
  out->Append('}');
  return absl::OkStatus();
}

void AppendJsonString(const Text& text, bool ensure_ascii, TextBuilder* out) {
  out->Append('"');
  AppendEscaped(
      text, [&](char32_t c) { return JsonEscape(c, ensure_ascii); }, out);
  out->Append('"');
}

std::string JsonFloat(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return FloatRepr(value);
}

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style, TextBuilder* out)
      : runtime_(runtime), style_(style), out_(*out) {}

  absl::Status Write(const Value& value) {
    const Nesting nesting(runtime_);
    RETURN_IF_ERROR(nesting.Check());
    RETURN_IF_ERROR(runtime_.budget().Step());
    RETURN_IF_ERROR(runtime_.budget().CheckLength(out_.size()));
    switch (value.kind()) {
      case Value::Kind::kNone:
        out_.Append("null");
        return absl::OkStatus();
      case Value::Kind::kBool:
        out_.Append(value.AsBool() ? "true" : "false");
        return absl::OkStatus();
      case Value::Kind::kInt:
        out_.Append(std::to_string(value.AsInt()));
        return absl::OkStatus();
      case Value::Kind::kFloat:
        out_.Append(JsonFloat(value.AsDouble()));
        return absl::OkStatus();
      case Value::Kind::kString:
        RETURN_IF_ERROR(runtime_.budget().Scan(value.AsString().size() * kEscapeCost));
        AppendJsonString(value.AsText(), style_.ensure_ascii, &out_);
        return absl::OkStatus();
      case Value::Kind::kDict:
        return WriteDict(value.AsDict());
      case Value::Kind::kSequence:
        if (value.IsList() || value.IsTuple()) return WriteList(value.AsSequence().items);
        break;
      default:
        break;
    }
    return Raise(ErrorType::kTypeError, "Object of type {} is not JSON serializable", value.TypeName());
  }

 private:
  void NewLine() {
    out_.Append('\n');
    for (int i = 0; i < level_; ++i) out_.Append(style_.indent);
  }

  absl::Status WriteList(const std::vector<Value>& items) {
    out_.Append('[');
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.Append(style_.item_separator);
      if (style_.pretty) NewLine();
      RETURN_IF_ERROR(Write(items[i]));
    }
    --level_;
    if (style_.pretty && !items.empty()) NewLine();
    out_.Append(']');
    return absl::OkStatus();
  }

  absl::Status WriteKey(const Value& key) {
    if (key.IsString()) {
      RETURN_IF_ERROR(runtime_.budget().Scan(key.AsString().size() * kEscapeCost));
      AppendJsonString(key.AsText(), style_.ensure_ascii, &out_);
      return absl::OkStatus();
    }
    if (!key.IsNumber() && !key.IsNone()) {
      return Raise(ErrorType::kTypeError, "keys must be str, int, float, bool or None, not {}", key.TypeName());
    }
    out_.Append('"');
    RETURN_IF_ERROR(Write(key));
    out_.Append('"');
    return absl::OkStatus();
  }

  absl::Status WriteDict(const Dict& dict) {
    std::vector<Value> keys, values;
    if (style_.sort_keys) {
      for (const Dict::Entry& entry : dict.entries()) {
        keys.push_back(entry.key);
        values.push_back(entry.value);
      }
      RETURN_IF_ERROR(SortByKeys(runtime_, false, &keys, &values));
    }
    out_.Append('{');
    ++level_;
    for (size_t i = 0; i < dict.entries().size(); ++i) {
      if (i > 0) out_.Append(style_.item_separator);
      if (style_.pretty) NewLine();
      RETURN_IF_ERROR(WriteKey(style_.sort_keys ? keys[i] : dict.entries()[i].key));
      out_.Append(style_.key_separator);
      RETURN_IF_ERROR(Write(style_.sort_keys ? values[i] : dict.entries()[i].value));
    }
    --level_;
    if (style_.pretty && !dict.entries().empty()) NewLine();
    out_.Append('}');
    return absl::OkStatus();
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  TextBuilder& out_;
  int level_ = 0;
};

}  // namespace

std::string QuotedRepr(std::string_view text) {
  const char quote = QuoteFor(text);
  TextBuilder out;
  out.Append(quote);
  AppendEscaped(
      Text{std::string(text), {}, false}, [&](char32_t c) { return ReprEscape(c, quote); }, &out);
  out.Append(quote);
  return out.bytes();
}

absl::Status AppendRepr(Runtime& runtime, const Value& value, TextBuilder* out) {
  const Nesting nesting(runtime);
  RETURN_IF_ERROR(nesting.Check());
  RETURN_IF_ERROR(runtime.budget().Step());
  RETURN_IF_ERROR(runtime.budget().CheckLength(out->size()));
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      out->Append("Undefined");
      return absl::OkStatus();
    case Value::Kind::kString: {
      const Text& text = value.AsText();
      RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * kEscapeCost));
      const char quote = QuoteFor(text.bytes);
      if (text.markup) out->Append("Markup(");
      out->Append(quote);
      AppendEscaped(
          text, [&](char32_t c) { return ReprEscape(c, quote); }, out);
      out->Append(quote);
      if (text.markup) out->Append(')');
      return absl::OkStatus();
    }
    case Value::Kind::kSequence:
      return AppendSequenceRepr(runtime, value.AsSequence(), out);
    case Value::Kind::kDict:
      return AppendDictRepr(runtime, value.AsDict(), out);
    case Value::Kind::kObject:
      return value.AsObject().Repr(runtime, *out);
    default:
      return AppendStr(runtime, value, out);
  }
}

absl::Status AppendStr(Runtime& runtime, const Value& value, TextBuilder* out) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return absl::OkStatus();
    case Value::Kind::kNone:
      out->Append("None");
      return absl::OkStatus();
    case Value::Kind::kBool:
      out->Append(value.AsBool() ? "True" : "False");
      return absl::OkStatus();
    case Value::Kind::kInt:
      out->Append(std::to_string(value.AsInt()));
      return absl::OkStatus();
    case Value::Kind::kFloat:
      out->Append(FloatRepr(value.AsDouble()));
      return absl::OkStatus();
    case Value::Kind::kString:
      RETURN_IF_ERROR(runtime.budget().Scan(value.AsString().size()));
      out->Append(value.AsText());
      return runtime.budget().CheckLength(out->size());
    default:
      return AppendRepr(runtime, value, out);
  }
}

absl::StatusOr<Text> Str(Runtime& runtime, const Value& value) {
  if (value.IsString()) return value.AsText();
  TextBuilder out;
  RETURN_IF_ERROR(AppendStr(runtime, value, &out));
  return out.Take();
}

absl::StatusOr<Text> Repr(Runtime& runtime, const Value& value) {
  TextBuilder out;
  RETURN_IF_ERROR(AppendRepr(runtime, value, &out));
  return out.Take();
}

absl::StatusOr<Value> StrValue(Runtime& runtime, const Value& value) {
  if (value.IsString()) return value;
  ASSIGN_OR_RETURN(Text text, Str(runtime, value));
  return runtime.NewText(std::move(text));
}

absl::Status AppendJson(Runtime& runtime, const Value& value, const JsonStyle& style, TextBuilder* out) {
  return JsonWriter(runtime, style, out).Write(value);
}

Text EscapeHtml(const Text& text) {
  TextBuilder out;
  const auto escape = [](char32_t c) -> std::string {
    switch (c) {
      case '&':
        return "&amp;";
      case '<':
        return "&lt;";
      case '>':
        return "&gt;";
      case '\'':
        return "&#39;";
      case '"':
        return "&#34;";
      default:
        return "";
    }
  };
  AppendEscaped(text, escape, &out);
  Text escaped = out.Take();
  escaped.markup = true;
  return escaped;
}

}  // namespace conclave::jinja
