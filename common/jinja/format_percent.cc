// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "common/jinja/conversion.h"
#include "common/jinja/format.h"
#include "common/jinja/printing.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

// The values of a "%" expression: a tuple in order, or one value, or a dict by name.
class PercentArguments {
 public:
  explicit PercentArguments(const Value& value) : value_(value) {}

  absl::StatusOr<Value> Next() {
    if (!value_.IsTuple()) {
      if (next_++ == 0) return value_;
    } else if (next_ < value_.AsSequence().items.size()) {
      return value_.AsSequence().items[next_++];
    }
    return Raise(ErrorType::kTypeError, "not enough arguments for format string");
  }

  absl::StatusOr<Value> Named(std::string_view name) {
    if (!value_.IsDict()) return Raise(ErrorType::kTypeError, "format requires a mapping");
    named_ = true;
    const Value* found = value_.AsDict().Find(name);
    if (found == nullptr) return Raise(ErrorType::kKeyError, "{}", QuotedRepr(name));
    return *found;
  }

  absl::Status CheckAllUsed() const {
    const bool all = value_.IsTuple() ? next_ == value_.AsSequence().items.size() : next_ > 0 || named_ || IsMapping();
    if (all) return absl::OkStatus();
    return Raise(ErrorType::kTypeError, "not all arguments converted during string formatting");
  }

 private:
  // What Python takes for a mapping here, and lets go unused: all that can be indexed, but for text and tuples.
  bool IsMapping() const { return value_.IsDict() || value_.IsList() || value_.IsUndefined(); }

  const Value& value_;
  size_t next_ = 0;
  bool named_ = false;
};

absl::Status AppendPadded(Runtime& runtime, const Conversion& conversion, const Text& text, TextBuilder* out) {
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size()));
  const Text padded = DerivedText(PadText(conversion, text.bytes), text);
  out->Append(padded);
  return runtime.budget().CheckLength(out->size());
}

absl::Status AppendPercent(Runtime& runtime, Conversion conversion, const Value& value, TextBuilder* out) {
  if (conversion.align == 0) conversion.align = '>';
  switch (conversion.type) {
    case 's':
    case 'r':
    case 'a': {
      ASSIGN_OR_RETURN(const Text text, conversion.type == 's' ? Str(runtime, value) : Repr(runtime, value));
      return AppendPadded(runtime, conversion, text, out);
    }
    case 'c': {
      std::string character;
      if (value.IsIntegral() && value.AsInt() >= 0 && value.AsInt() <= 0x10FFFF) {
        AppendUtf8(static_cast<char32_t>(value.AsInt()), &character);
      } else if (value.IsString() && CodePointCount(value.AsString()) == 1) {
        return AppendPadded(runtime, conversion, value.AsText(), out);
      } else {
        return Raise(ErrorType::kTypeError, "%c requires int or char");
      }
      out->Append(PadText(conversion, character));
      return absl::OkStatus();
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      if (value.IsUndefined()) return UndefinedError(value);
      const bool decimal = conversion.type == 'd' || conversion.type == 'i' || conversion.type == 'u';
      if (!value.IsIntegral() && !(decimal && value.IsFloat() && std::abs(value.AsDouble()) < 9.2e18)) {
        return Raise(ErrorType::kTypeError, "%{} format: {} is required, not {}", conversion.type,
                     decimal ? "a real number" : "an integer", value.TypeName());
      }
      if (conversion.align != '<' && conversion.zero) conversion.align = 0;
      const int64_t number = value.IsFloat() ? static_cast<int64_t>(value.AsDouble()) : value.AsInt();
      if (decimal) conversion.type = 'd';
      out->Append(FormatInteger(conversion, number));
      return absl::OkStatus();
    }
    default: {
      if (value.IsUndefined()) return UndefinedError(value);
      if (!value.IsNumber()) {
        return Raise(ErrorType::kTypeError, "must be real number, not {}", value.TypeName());
      }
      if (conversion.align != '<' && conversion.zero) conversion.align = 0;
      out->Append(FormatFloat(conversion, value.AsDouble()));
      return absl::OkStatus();
    }
  }
}

// Reads the flags, width, precision and type behind a '%'; '*' takes a number from the arguments.
absl::StatusOr<Conversion> ReadPercent(std::string_view format, size_t* at, PercentArguments* arguments) {
  Conversion conversion;
  for (; *at < format.size(); ++*at) {
    const char c = format[*at];
    if (c == '-') {
      conversion.align = '<';
    } else if (c == '0') {
      conversion.zero = true;
    } else if (c == '#') {
      conversion.alternate = true;
    } else if (c == '+' || (c == ' ' && conversion.sign != '+')) {
      conversion.sign = c;
    } else if (c != ' ') {
      break;
    }
  }
  auto number = [&]() -> absl::StatusOr<int64_t> {
    if (*at >= format.size() || format[*at] != '*') return ReadNumber(format, at);
    ++*at;
    ASSIGN_OR_RETURN(const Value value, arguments->Next());
    if (!value.IsIntegral()) return Raise(ErrorType::kTypeError, "* wants int");
    return value.AsInt();
  };
  ASSIGN_OR_RETURN(conversion.width, number());
  if (conversion.width < -1) {
    conversion.align = '<';
    conversion.width = conversion.width == INT64_MIN ? INT64_MAX : -conversion.width;
  }
  if (*at < format.size() && format[*at] == '.') {
    ++*at;
    ASSIGN_OR_RETURN(conversion.precision, number());
    conversion.precision = std::max<int64_t>(conversion.precision, 0);
  }
  while (*at < format.size() && (format[*at] == 'l' || format[*at] == 'h' || format[*at] == 'L')) ++*at;
  RETURN_IF_ERROR(CheckSizes(conversion));
  if (*at >= format.size()) return Raise(ErrorType::kValueError, "incomplete format");
  conversion.type = format[(*at)++];
  static constexpr std::string_view kTypes = "sracdiuxXoeEfFgG%";
  if (kTypes.find(conversion.type) == std::string_view::npos) {
    return Raise(ErrorType::kValueError, "unsupported format character '{}' (0x{:x}) at index {}", conversion.type,
                 static_cast<unsigned>(static_cast<unsigned char>(conversion.type)), *at - 1);
  }
  return conversion;
}

}  // namespace

absl::StatusOr<Value> FormatPercent(Runtime& runtime, const Text& format, const Value& value) {
  TextBuilder out;
  PercentArguments arguments(value);
  const std::string& bytes = format.bytes;
  for (size_t at = 0; at < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', at), bytes.size());
    out.Append(format, at, percent);
    if (percent == bytes.size()) break;
    at = percent + 1;
    RETURN_IF_ERROR(runtime.budget().Step());
    std::string_view name;
    const bool named = at < bytes.size() && bytes[at] == '(';
    if (named) {
      const size_t end = bytes.find(')', at);
      if (end == std::string::npos) return Raise(ErrorType::kValueError, "incomplete format key");
      name = std::string_view(bytes).substr(at + 1, end - at - 1);
      at = end + 1;
    }
    Value item;
    if (named) {
      ASSIGN_OR_RETURN(item, arguments.Named(name));
    }
    ASSIGN_OR_RETURN(const Conversion conversion, ReadPercent(bytes, &at, &arguments));
    if (conversion.type == '%') {
      out.Append('%');
      continue;
    }
    if (!named) {
      ASSIGN_OR_RETURN(item, arguments.Next());
    }
    RETURN_IF_ERROR(AppendPercent(runtime, conversion, item, &out));
  }
  RETURN_IF_ERROR(arguments.CheckAllUsed());
  return runtime.NewText(out.Take());
}

}  // namespace conclave::jinja
