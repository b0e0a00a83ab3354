// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "common/jinja/conversion.h"
#include "common/jinja/format.h"
#include "common/jinja/printing.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

absl::StatusOr<Conversion> ReadSpecification(std::string_view text, const Value& value) {
  Conversion conversion;
  size_t at = 0;
  auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!text.empty()) {
    const size_t first = DecodeAt(text, 0).bytes;
    if (first < text.size() && is_align(text[first])) {
      conversion.fill = std::string(text.substr(0, first));
      conversion.align = text[first];
      at = first + 1;
    } else if (is_align(text[0])) {
      conversion.align = text[0];
      at = 1;
    }
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) conversion.sign = text[at++];
  if (at < text.size() && text[at] == '#') conversion.alternate = (++at, true);
  if (at < text.size() && text[at] == '0') conversion.zero = (++at, true);
  conversion.width = std::max<int64_t>(ReadNumber(text, &at), 0);
  if (at < text.size() && (text[at] == ',' || text[at] == '_')) conversion.group = text[at++];
  if (at < text.size() && text[at] == '.') {
    ++at;
    conversion.precision = ReadNumber(text, &at);
    if (conversion.precision < 0) return Raise(ErrorType::kValueError, "Format specifier missing precision");
  }
  if (at < text.size()) conversion.type = text[at++];
  RETURN_IF_ERROR(CheckSizes(conversion));
  if (at < text.size()) {
    return Raise(ErrorType::kValueError, "Invalid format specifier '{}' for object of type '{}'", text,
                 value.TypeName());
  }
  return conversion;
}

}  // namespace

absl::StatusOr<std::string> FormatSpecification(Runtime& runtime, const Value& value, std::string_view specification) {
  if (specification.empty()) {
    ASSIGN_OR_RETURN(Text text, Str(runtime, value));
    return std::move(text.bytes);
  }
  ASSIGN_OR_RETURN(Conversion conversion, ReadSpecification(specification, value));
  static constexpr std::string_view kIntegerTypes = "bcdoxXn", kFloatTypes = "eEfFgGn%";
  auto unknown = [&] {
    return Raise(ErrorType::kValueError, "Unknown format code '{}' for object of type '{}'", conversion.type,
                 value.TypeName());
  };
  if (value.IsString()) {
    if (conversion.type != 0 && conversion.type != 's') return unknown();
    if (conversion.align == '=') {
      return Raise(ErrorType::kValueError, "'=' alignment not allowed in string format specifier");
    }
    if (conversion.zero && conversion.align == 0) conversion.fill = "0";
    return PadText(conversion, value.AsString());
  }
  if (value.IsIntegral() && (conversion.type == 0 || kIntegerTypes.find(conversion.type) != std::string_view::npos)) {
    if (conversion.precision >= 0) {
      return Raise(ErrorType::kValueError, "Precision not allowed in integer format specifier");
    }
    if (conversion.type == 'n') conversion.type = 'd';
    if (conversion.type == 'c') {
      const int64_t code_point = value.AsInt();
      if (code_point < 0 || code_point > 0x10FFFF) {
        return Raise(ErrorType::kOverflowError, "%c arg not in range(0x110000)");
      }
      std::string character;
      AppendUtf8(static_cast<char32_t>(code_point), &character);
      return PadText(conversion, std::move(character));
    }
    return FormatInteger(conversion, value.AsInt());
  }
  if (value.IsNumber()) {
    if (conversion.type != 0 && kFloatTypes.find(conversion.type) == std::string_view::npos) return unknown();
    return FormatFloat(conversion, value.AsDouble());
  }
  return Raise(ErrorType::kTypeError, "unsupported format string passed to {}.__format__", value.TypeName());
}

namespace {

// Fills the fields of one "{}" format.
class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Arguments& arguments) : runtime_(runtime), arguments_(arguments) {}

  // Formats `format`; a specification may hold fields of its own, one level deep.
  absl::Status Format(const Text& format, int depth, TextBuilder* out) {
    if (depth == 0) return Raise(ErrorType::kValueError, "Max string recursion exceeded");
    const std::string& bytes = format.bytes;
    size_t plain = 0;
    for (size_t at = 0; at < bytes.size();) {
      if (bytes[at] != '{' && bytes[at] != '}') {
        ++at;
        continue;
      }
      out->Append(format, plain, at);
      if (at + 1 < bytes.size() && bytes[at + 1] == bytes[at]) {
        out->Append(format, at, at + 1);
        plain = at += 2;
        continue;
      }
      if (bytes[at] == '}') return Raise(ErrorType::kValueError, "Single '}}' encountered in format string");
      ASSIGN_OR_RETURN(at, Field(format, at + 1, depth, out));
      plain = at;
    }
    out->Append(format, plain, bytes.size());
    return runtime_.budget().CheckLength(out->size());
  }

 private:
  // Formats the field that starts at `at`, behind its brace; returns where the text goes on.
  absl::StatusOr<size_t> Field(const Text& format, size_t at, int depth, TextBuilder* out) {
    RETURN_IF_ERROR(runtime_.budget().Step());
    const std::string& bytes = format.bytes;
    if (at >= bytes.size()) return Raise(ErrorType::kValueError, "Single '{{' encountered in format string");
    size_t end = at;
    int open = 1;
    while (end < bytes.size() && open > 0) open += bytes[end] == '{' ? 1 : bytes[end] == '}' ? -1 : 0, ++end;
    if (open > 0) return Raise(ErrorType::kValueError, "expected '}}' before end of string");
    const size_t close = end - 1;
    size_t name_end = at;
    bool bracket = false;
    while (name_end < close && (bracket || (bytes[name_end] != '!' && bytes[name_end] != ':'))) {
      bracket = bytes[name_end] == '[' || (bracket && bytes[name_end] != ']');
      ++name_end;
    }
    ASSIGN_OR_RETURN(Value value, Resolve(std::string_view(bytes).substr(at, name_end - at)));
    size_t rest = name_end;
    if (rest < close && bytes[rest] == '!') {
      const char conversion = rest + 1 < close ? bytes[rest + 1] : 0;
      if (conversion != 's' && conversion != 'r' && conversion != 'a') {
        return Raise(ErrorType::kValueError, "Unknown conversion specifier {}", conversion);
      }
      ASSIGN_OR_RETURN(Text text, conversion == 's' ? Str(runtime_, value) : Repr(runtime_, value));
      ASSIGN_OR_RETURN(value, runtime_.NewText(std::move(text)));
      rest += 2;
    }
    TextBuilder specification;
    if (rest < close && bytes[rest] == ':') {
      RETURN_IF_ERROR(Format(Substring(format, rest + 1, close), depth - 1, &specification));
    }
    const Text spec = specification.Take();
    ASSIGN_OR_RETURN(const Text text, Str(runtime_, value));
    if (spec.bytes.empty()) {
      out->Append(text);
    } else {
      ASSIGN_OR_RETURN(std::string formatted, FormatSpecification(runtime_, value, spec.bytes));
      out->Append(DerivedText(std::move(formatted), spec.user.empty() ? text : spec));
    }
    RETURN_IF_ERROR(runtime_.budget().Scan(text.bytes.size()));
    return end;
  }

  // The value of "0", "", "name", "name.attribute[index]".
  absl::StatusOr<Value> Resolve(std::string_view field) {
    const size_t first_end = std::min(field.find_first_of(".["), field.size());
    const std::string_view first = field.substr(0, first_end);
    size_t digits = 0;
    const int64_t position = ReadNumber(first, &digits);
    Value value;
    if (first.empty() || (position >= 0 && digits == first.size())) {
      const auto at = static_cast<size_t>(first.empty() ? automatic_++ : position);
      if (at >= arguments_.positional.size()) {
        return Raise(ErrorType::kIndexError, "tuple index out of range");
      }
      value = arguments_.positional[at];
    } else {
      bool found = false;
      for (const auto& [name, named] : arguments_.named) {
        if (name.AsString() == first) value = named, found = true;
      }
      if (!found) return Raise(ErrorType::kKeyError, "{}", QuotedRepr(first));
    }
    for (size_t at = first_end; at < field.size();) {
      RETURN_IF_ERROR(runtime_.budget().Step());
      const bool item = field[at] == '[';
      const size_t end = item ? field.find(']', at) : std::min(field.find_first_of(".[", at + 1), field.size());
      if (end == std::string_view::npos) return Raise(ErrorType::kValueError, "Missing ']' in format string");
      const std::string_view name = field.substr(at + 1, end - at - 1);
      if (name.empty()) return Raise(ErrorType::kValueError, "Empty attribute in format string");
      size_t read = 0;
      const int64_t index = ReadNumber(name, &read);
      const bool number = item && index >= 0 && read == name.size();
      const Value key = number ? Value::Int(index) : Value::String(std::string(name));
      ASSIGN_OR_RETURN(value, item ? GetItem(runtime_, value, key) : GetAttribute(runtime_, value, key));
      at = item ? end + 1 : end;
      if (item && at < field.size() && field[at] != '.' && field[at] != '[') {
        return Raise(ErrorType::kValueError, "Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  int64_t automatic_ = 0;
};

}  // namespace

absl::StatusOr<Value> FormatBraces(Runtime& runtime, const Text& format, const Arguments& arguments) {
  TextBuilder out;
  RETURN_IF_ERROR(runtime.budget().Scan(format.bytes.size()));
  RETURN_IF_ERROR(BraceFormatter(runtime, arguments).Format(format, 2, &out));
  return runtime.NewText(out.Take());
}

}  // namespace conclave::jinja
