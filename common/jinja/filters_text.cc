// SPDX-License-Identifier: Apache-2.0
// Filters that take or make text.
#include <algorithm>

#include "common/jinja/builtins.h"
#include "common/jinja/format.h"
#include "common/jinja/methods.h"
#include "common/jinja/printing.h"
#include "common/jinja/text_operations.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

constexpr int64_t kMaxIndent = 10'000;  // spaces, for `indent` and `tojson`

absl::StatusOr<Value> Method0(Runtime& runtime, std::string_view name, const Value& self) {
  ASSIGN_OR_RETURN(const Value text, StrValue(runtime, self));
  Arguments none;
  return CallMethod(runtime, FindStringMethod(name), text, none);
}

absl::StatusOr<Value> Upper(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_upper", {}}, arguments).status());
  return Method0(runtime, "upper", self);
}

absl::StatusOr<Value> Lower(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_lower", {}}, arguments).status());
  return Method0(runtime, "lower", self);
}

absl::StatusOr<Value> CapitalizeFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_capitalize", {}}, arguments).status());
  return Method0(runtime, "capitalize", self);
}

// Unlike str.title: words begin after space and opening brackets only.
absl::StatusOr<Value> Title(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_title", {}}, arguments).status());
  ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * 8));
  std::string out;
  bool start = true;
  std::string word;
  auto flush = [&] {
    if (word.empty()) return;
    const size_t first = DecodeAt(word, 0).bytes;
    out += ToUpper(std::string_view(word).substr(0, first)) + ToLower(std::string_view(word).substr(first));
    word.clear();
  };
  for (size_t at = 0; at < text.bytes.size();) {
    const CodePoint c = DecodeAt(text.bytes, at);
    const bool boundary =
        IsSpace(c.value) || c.value == '-' || c.value == '(' || c.value == '{' || c.value == '[' || c.value == '<';
    if (boundary != start) flush();
    start = boundary;
    word.append(text.bytes, at, c.bytes);
    at += c.bytes;
  }
  flush();
  return runtime.NewText(DerivedText(std::move(out), text));
}

absl::StatusOr<Value> Trim(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_trim", {"chars"}}, arguments));
  if (!bound[0].IsMissing() && !bound[0].IsNone() && !bound[0].IsString()) {
    return Raise(ErrorType::kTypeError, "strip arg must be None or str");
  }
  ASSIGN_OR_RETURN(const Value text, StrValue(runtime, self));
  return Strip(runtime, text, bound[0], StripSide::kBoth);
}

absl::StatusOr<Value> ReplaceFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_replace", {"old", "new", "count"}, 2, 2}, arguments));
  ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
  ASSIGN_OR_RETURN(const Text from, Str(runtime, bound[0]));
  ASSIGN_OR_RETURN(const Text to, Str(runtime, bound[1]));
  ASSIGN_OR_RETURN(const int64_t count, IntegerArgument(bound[2], -1));
  return Replace(runtime, text, from, to, count);
}

absl::StatusOr<Value> Indent(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_indent", {"width", "first", "blank"}}, arguments));
  if (self.IsUndefined()) return UndefinedError(self);
  if (self.IsList()) return Raise(ErrorType::kAttributeError, "'list' object has no attribute 'splitlines'");
  if (!self.IsString()) {
    return Raise(ErrorType::kTypeError, "unsupported operand type(s) for +=: '{}' and 'str'", self.TypeName());
  }
  Text indention;
  if (bound[0].IsString()) {
    indention = bound[0].AsText();
  } else {
    ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(bound[0], 4));
    RETURN_IF_ERROR(runtime.budget().CheckLength(static_cast<size_t>(std::max<int64_t>(width, 0))));
    indention.bytes.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  TextBuilder padded;
  padded.Append(self.AsText());
  padded.Append('\n');
  const Text source = padded.Take();
  ASSIGN_OR_RETURN(const std::vector<Value> lines, SplitLines(runtime, source, false));
  TextBuilder out;
  const bool blank = bound[2].Truthy();
  if (bound[1].Truthy()) out.Append(indention);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.Append('\n');
    if (i > 0 && (blank || !lines[i].AsString().empty())) out.Append(indention);
    out.Append(lines[i].AsText());
    RETURN_IF_ERROR(runtime.budget().CheckLength(out.size()));
  }
  return runtime.NewText(out.Take());
}

absl::StatusOr<Value> CenterFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_center", {"width"}}, arguments));
  ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(bound[0], 80));
  ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
  return Center(runtime, text, width, Text{" ", {}, false});
}

absl::StatusOr<Value> JoinFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_join", {"d", "attribute"}, 0, 2}, arguments));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Items(runtime, self));
  Text separator;
  if (!bound[0].IsMissing()) {
    ASSIGN_OR_RETURN(separator, Str(runtime, bound[0]));
  }
  const AttributePath path(bound[1]);
  std::vector<Text> parts;
  parts.reserve(items.size());
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const Value part, path.Get(runtime, item));
    ASSIGN_OR_RETURN(Text text, Str(runtime, part));
    RETURN_IF_ERROR(runtime.budget().Allocate(text.bytes.size()));
    parts.push_back(std::move(text));
  }
  return Join(runtime, separator, parts);
}

absl::StatusOr<Value> StringFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"soft_str", {}}, arguments).status());
  return StrValue(runtime, self);
}

absl::StatusOr<Value> Escape(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"escape", {}}, arguments).status());
  if (self.IsString() && self.AsText().markup) return self;
  ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * kEscapeCost));
  return runtime.NewText(EscapeHtml(text));
}

absl::StatusOr<Value> ForceEscape(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_forceescape", {}}, arguments).status());
  ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * kEscapeCost));
  return runtime.NewText(EscapeHtml(text));
}

absl::StatusOr<Value> Safe(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_mark_safe", {}}, arguments).status());
  ASSIGN_OR_RETURN(Text text, Str(runtime, self));
  text.markup = true;
  return runtime.NewText(std::move(text));
}

absl::StatusOr<Value> Format(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    return Raise(ErrorType::kFilterArgumentError, "can't handle positional and keyword arguments at the same time");
  }
  ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
  if (!arguments.named.empty()) {
    Dict values;
    for (auto& [name, value] : arguments.named) values.Set(name, value, runtime.budget());
    ASSIGN_OR_RETURN(const Value mapping, runtime.NewDict(std::move(values)));
    return FormatPercent(runtime, text, mapping);
  }
  ASSIGN_OR_RETURN(const Value tuple, runtime.NewTuple({arguments.positional.begin(), arguments.positional.end()}));
  return FormatPercent(runtime, text, tuple);
}

absl::StatusOr<Value> Truncate(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_truncate", {"length", "killwords", "end", "leeway"}, 0, 2}, arguments));
  ASSIGN_OR_RETURN(const int64_t length, IntegerArgument(bound[0], 255));
  ASSIGN_OR_RETURN(const int64_t leeway, IntegerArgument(bound[3], 5));
  Text end{"...", {}, false};
  if (!bound[2].IsMissing()) {
    ASSIGN_OR_RETURN(end, Str(runtime, bound[2]));
  }
  ASSIGN_OR_RETURN(const int64_t size, Length(runtime, self));
  const auto end_size = static_cast<int64_t>(CodePointCount(end.bytes));
  if (length < end_size || leeway < 0) {
    return Raise(ErrorType::kValueError, "expected length >= {}, got {}", end_size, length);
  }
  if (size <= length || size - length <= leeway) return self;
  ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
  size_t cut = ByteOffset(text.bytes, static_cast<size_t>(length - end_size));
  if (!bound[1].Truthy()) {
    const size_t space = std::string_view(text.bytes).substr(0, cut).rfind(' ');
    if (space != std::string_view::npos) cut = space;
  }
  TextBuilder out;
  out.Append(text, 0, cut);
  out.Append(end);
  return runtime.NewText(out.Take());
}

absl::StatusOr<Value> WordCount(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_wordcount", {}}, arguments).status());
  ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * 8));
  int64_t count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.bytes.size();) {
    const CodePoint c = DecodeAt(text.bytes, at);
    const bool word = IsWord(c.value);
    if (word && !inside) ++count;
    inside = word;
    at += c.bytes;
  }
  return Value::Int(count);
}

void AppendQuoted(std::string_view text, bool query, std::string* out) {
  static constexpr std::string_view kSafe = "_.-~";
  for (const char byte : text) {
    const auto c = static_cast<unsigned char>(byte);
    const bool plain = c < 0x80 && (IsAlpha(c) || IsDecimal(c) || kSafe.find(byte) != std::string_view::npos ||
                                    (byte == '/' && !query));
    if (plain) {
      out->push_back(byte);
    } else if (byte == ' ' && query) {
      out->push_back('+');
    } else {
      *out += fmt::format("%{:02X}", c);
    }
  }
}

absl::StatusOr<Value> UrlEncode(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_urlencode", {}}, arguments).status());
  std::string out;
  if (self.IsString() || !IsIterable(self)) {
    ASSIGN_OR_RETURN(const Text text, Str(runtime, self));
    RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * kEscapeCost));
    AppendQuoted(text.bytes, false, &out);
    return runtime.NewText(DerivedText(std::move(out), text));
  }
  Arguments none;
  std::vector<Value> pairs;
  if (self.IsDict()) {
    ASSIGN_OR_RETURN(const Value items, CallMethod(runtime, FindDictMethod("items"), self, none));
    pairs = items.AsSequence().items;
  } else {
    ASSIGN_OR_RETURN(pairs, Items(runtime, self));
  }
  TextBuilder builder;
  for (size_t i = 0; i < pairs.size(); ++i) {
    ASSIGN_OR_RETURN(const std::vector<Value> pair, Items(runtime, pairs[i]));
    if (pair.size() < 2) {
      return Raise(ErrorType::kValueError, "not enough values to unpack (expected 2, got {})", pair.size());
    }
    if (pair.size() > 2) return Raise(ErrorType::kValueError, "too many values to unpack (expected 2)");
    if (i > 0) builder.Append('&');
    for (size_t side = 0; side < 2; ++side) {
      ASSIGN_OR_RETURN(const Text text, Str(runtime, pair[side]));
      std::string quoted;
      AppendQuoted(text.bytes, true, &quoted);
      if (side == 1) builder.Append('=');
      builder.Append(DerivedText(std::move(quoted), text));
      RETURN_IF_ERROR(runtime.budget().CheckLength(builder.size()));
    }
  }
  return runtime.NewText(builder.Take());
}

// As transformers defines it for chat templates: no HTML escaping, ensure_ascii off.
absl::StatusOr<Value> ToJsonFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}}, arguments));
  JsonStyle style;
  style.ensure_ascii = bound[0].Truthy();
  style.sort_keys = bound[3].Truthy();
  const Value& indent = bound[1];
  if (indent.IsString()) {
    style.pretty = true;
    style.indent = indent.AsString();
  } else if (!indent.IsMissing() && !indent.IsNone()) {
    style.pretty = true;
    ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(indent, 0));
    style.indent.assign(static_cast<size_t>(std::clamp<int64_t>(width, 0, kMaxIndent)), ' ');
  }
  if (style.pretty) style.item_separator = ",";
  if (!bound[2].IsMissing() && !bound[2].IsNone()) {
    ASSIGN_OR_RETURN(const std::vector<Value> separators, Items(runtime, bound[2]));
    if (separators.size() != 2 || !separators[0].IsString() || !separators[1].IsString()) {
      return Raise(ErrorType::kTypeError, "separators must be two strings");
    }
    style.item_separator = separators[0].AsString();
    style.key_separator = separators[1].AsString();
  }
  TextBuilder out;
  RETURN_IF_ERROR(AppendJson(runtime, self, style, &out));
  return runtime.NewText(out.Take());
}

absl::StatusOr<Value> PrettyPrint(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_pprint", {}}, arguments).status());
  ASSIGN_OR_RETURN(Text text, Repr(runtime, self));
  return runtime.NewText(std::move(text));
}

}  // namespace

FilterBody FindTextFilter(std::string_view name) {
  struct Entry {
    std::string_view name;
    FilterBody body;
  };
  static constexpr Entry kTable[] = {{"capitalize", CapitalizeFilter},
                                     {"center", CenterFilter},
                                     {"e", Escape},
                                     {"escape", Escape},
                                     {"forceescape", ForceEscape},
                                     {"format", Format},
                                     {"indent", Indent},
                                     {"join", JoinFilter},
                                     {"lower", Lower},
                                     {"pprint", PrettyPrint},
                                     {"replace", ReplaceFilter},
                                     {"safe", Safe},
                                     {"string", StringFilter},
                                     {"title", Title},
                                     {"tojson", ToJsonFilter},
                                     {"trim", Trim},
                                     {"truncate", Truncate},
                                     {"upper", Upper},
                                     {"urlencode", UrlEncode},
                                     {"wordcount", WordCount},
                                     {"wordwrap", WordWrap}};
  for (const Entry& entry : kTable) {
    if (entry.name == name) return entry.body;
  }
  return nullptr;
}

}  // namespace conclave::jinja
