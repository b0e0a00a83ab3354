// SPDX-License-Identifier: Apache-2.0
// LONG FILE: the methods of Python's str, one short function each.
#include <absl/container/flat_hash_map.h>

#include <algorithm>

#include "common/jinja/format.h"
#include "common/jinja/methods.h"
#include "common/jinja/printing.h"
#include "common/jinja/text_operations.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

absl::Status NoKeywords(std::string_view name, const Arguments& arguments) {
  if (arguments.named.empty()) return absl::OkStatus();
  return Raise(ErrorType::kTypeError, "str.{}() takes no keyword arguments", name);
}

absl::Status CheckCount(std::string_view name, const Arguments& arguments, size_t least, size_t most) {
  RETURN_IF_ERROR(NoKeywords(name, arguments));
  const size_t given = arguments.positional.size();
  if (given >= least && given <= most) return absl::OkStatus();
  if (least == most) {
    return least == 0 ? Raise(ErrorType::kTypeError, "str.{}() takes no arguments ({} given)", name, given)
                      : Raise(ErrorType::kTypeError, "str.{}() takes exactly {} argument{} ({} given)", name,
                              least == 1 ? "one" : std::to_string(least), least == 1 ? "" : "s", given);
  }
  return Raise(ErrorType::kTypeError, "{} expected at {} {} argument{}, got {}", name, given < least ? "least" : "most",
               given < least ? least : most, (given < least ? least : most) == 1 ? "" : "s", given);
}

const Text* TextAt(const Arguments& arguments, size_t index) {
  if (index >= arguments.positional.size() || !arguments.positional[index].IsString()) return nullptr;
  return &arguments.positional[index].AsText();
}

absl::StatusOr<const Text*> TextArgument(std::string_view name, const Arguments& arguments, size_t index) {
  if (const Text* text = TextAt(arguments, index)) return text;
  const Value& value = arguments.positional[index];
  if (value.IsUndefined() && !value.IsMissing()) {
    return Raise(ErrorType::kTypeError, "{}() argument {} must be str, not Undefined", name, index + 1);
  }
  return Raise(ErrorType::kTypeError, "{}() argument {} must be str, not {}", name, index + 1, value.TypeName());
}

template <StripSide kSide>
absl::StatusOr<Value> StripMethod(Runtime& runtime, const Value& self, Arguments& arguments) {
  constexpr std::string_view kName = kSide == StripSide::kLeft    ? "lstrip"
                                     : kSide == StripSide::kRight ? "rstrip"
                                                                  : "strip";
  RETURN_IF_ERROR(CheckCount(kName, arguments, 0, 1));
  const Value characters = arguments.positional.empty() ? Value() : arguments.positional[0];
  if (!characters.IsMissing() && !characters.IsNone() && !characters.IsString()) {
    return Raise(ErrorType::kTypeError, "{} arg must be None or str", kName);
  }
  return Strip(runtime, self, characters, kSide);
}

// [begin, end) in bytes of the optional start and end arguments at `index`.
absl::StatusOr<ByteRange> WindowArgument(const Text& text, const Arguments& arguments, size_t index) {
  ByteRange window{0, text.bytes.size()};
  if (arguments.positional.size() <= index) return window;
  const auto count = static_cast<int64_t>(CodePointCount(text.bytes));
  auto offset = [&](size_t i, int64_t fallback) -> absl::StatusOr<int64_t> {
    if (arguments.positional.size() <= i) return fallback;
    ASSIGN_OR_RETURN(const int64_t at, IntegerArgument(arguments.positional[i], fallback));
    return at < 0 ? std::max<int64_t>(at + count, 0) : at;
  };
  ASSIGN_OR_RETURN(const int64_t first, offset(index, 0));
  ASSIGN_OR_RETURN(const int64_t last, offset(index + 1, count));
  if (first > count) return ByteRange{1, 0};  // empty: not even the empty string is found
  window.begin = ByteOffset(text.bytes, static_cast<size_t>(first));
  window.end = ByteOffset(text.bytes, static_cast<size_t>(last));
  return window;
}

template <bool kLast, bool kRaise>
absl::StatusOr<Value> Find(Runtime& runtime, const Value& self, Arguments& arguments) {
  constexpr std::string_view kName = kRaise ? (kLast ? "rindex" : "index") : (kLast ? "rfind" : "find");
  RETURN_IF_ERROR(CheckCount(kName, arguments, 1, 3));
  ASSIGN_OR_RETURN(const Text* part, TextArgument(kName, arguments, 0));
  const Text& text = self.AsText();
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * 2 + part->bytes.size()));
  ASSIGN_OR_RETURN(const ByteRange window, WindowArgument(text, arguments, 1));
  size_t at = kNotFound;
  if (window.begin <= window.end) {
    const std::string_view inside(text.bytes.data() + window.begin, window.end - window.begin);
    at = kLast ? FindLast(inside, part->bytes, inside.size()) : FindFrom(inside, part->bytes, 0);
  }
  if (at == kNotFound) {
    if (kRaise) return Raise(ErrorType::kValueError, "substring not found");
    return Value::Int(-1);
  }
  const std::string_view before = std::string_view(text.bytes).substr(0, window.begin + at);
  return Value::Int(static_cast<int64_t>(CodePointCount(before)));
}

absl::StatusOr<Value> Count(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(CheckCount("count", arguments, 1, 3));
  ASSIGN_OR_RETURN(const Text* part, TextArgument("count", arguments, 0));
  const Text& text = self.AsText();
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * 2 + part->bytes.size()));
  ASSIGN_OR_RETURN(const ByteRange window, WindowArgument(text, arguments, 1));
  if (window.begin > window.end) return Value::Int(0);
  const std::string_view inside(text.bytes.data() + window.begin, window.end - window.begin);
  if (part->bytes.empty()) return Value::Int(static_cast<int64_t>(CodePointCount(inside)) + 1);
  int64_t count = 0;
  for (size_t at = 0; (at = FindFrom(inside, part->bytes, at)) != kNotFound; at += part->bytes.size()) ++count;
  return Value::Int(count);
}

template <bool kStart>
absl::StatusOr<Value> StartsOrEnds(Runtime& runtime, const Value& self, Arguments& arguments) {
  constexpr std::string_view kName = kStart ? "startswith" : "endswith";
  RETURN_IF_ERROR(CheckCount(kName, arguments, 1, 3));
  const Text& text = self.AsText();
  ASSIGN_OR_RETURN(const ByteRange window, WindowArgument(text, arguments, 1));
  const Value& wanted = arguments.positional[0];
  if (!wanted.IsString() && !wanted.IsTuple()) {
    return Raise(ErrorType::kTypeError, "{} first arg must be str or a tuple of str, not {}", kName, wanted.TypeName());
  }
  auto matches = [&](const std::string& part) {
    if (window.begin > window.end) return false;
    const std::string_view inside(text.bytes.data() + window.begin, window.end - window.begin);
    return kStart ? inside.starts_with(part) : inside.ends_with(part);
  };
  if (wanted.IsString()) return Value::Bool(matches(wanted.AsString()));
  for (const Value& option : wanted.AsSequence().items) {
    RETURN_IF_ERROR(runtime.budget().Step());
    if (!option.IsString()) {
      return Raise(ErrorType::kTypeError, "tuple for {} must only contain str, not {}", kName, option.TypeName());
    }
    if (matches(option.AsString())) return Value::Bool(true);
  }
  return Value::Bool(false);
}

// split() on white space. From the right when asked; `most` < 0 means no limit.
absl::StatusOr<std::vector<Value>> SplitWhiteSpace(Runtime& runtime, const Text& text, int64_t most, bool right) {
  std::vector<ByteRange> words;
  for (size_t at = 0; at < text.bytes.size();) {
    const CodePoint c = DecodeAt(text.bytes, at);
    if (!IsSpace(c.value)) {
      if (!words.empty() && words.back().end == at) {
        words.back().end = at + c.bytes;
      } else {
        words.push_back({at, at + c.bytes});
      }
    }
    at += c.bytes;
  }
  const size_t limit = most < 0 ? words.size() : static_cast<size_t>(most);
  if (words.size() > limit + 1 && !right) {
    words.resize(limit + 1);
    words.back().end = text.bytes.size();  // the rest, with its trailing space
  } else if (words.size() > limit + 1) {
    const size_t joined = words.size() - limit;
    words[joined - 1].begin = 0;
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(joined - 1));
  }
  std::vector<Value> parts;
  for (const ByteRange& word : words) {
    ASSIGN_OR_RETURN(Value part, Piece(runtime, text, word.begin, word.end));
    parts.push_back(std::move(part));
  }
  return parts;
}

absl::StatusOr<std::vector<Value>> SplitOn(Runtime& runtime, const Text& text, const std::string& separator,
                                           int64_t most, bool right) {
  std::vector<size_t> cuts;
  for (size_t at = 0; (at = FindFrom(text.bytes, separator, at)) != kNotFound; at += separator.size()) {
    if (!right && most >= 0 && cuts.size() >= static_cast<size_t>(most)) break;
    cuts.push_back(at);
  }
  if (right && most >= 0 && cuts.size() > static_cast<size_t>(most)) {
    cuts.clear();  // overlapping separators are found from the other side
    size_t end = text.bytes.size();
    while (cuts.size() < static_cast<size_t>(most)) {
      RETURN_IF_ERROR(runtime.budget().Scan(end));
      const size_t at = FindLast(text.bytes, separator, end);
      if (at == kNotFound) break;
      cuts.push_back(at);
      end = at;
    }
    std::reverse(cuts.begin(), cuts.end());
  }
  std::vector<Value> parts;
  size_t begin = 0;
  for (size_t cut : cuts) {
    ASSIGN_OR_RETURN(Value part, Piece(runtime, text, begin, cut));
    parts.push_back(std::move(part));
    begin = cut + separator.size();
  }
  ASSIGN_OR_RETURN(Value part, Piece(runtime, text, begin, text.bytes.size()));
  parts.push_back(std::move(part));
  return parts;
}

template <bool kRight>
absl::StatusOr<Value> Split(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({kRight ? "rsplit" : "split", {"sep", "maxsplit"}, 0, 0}, arguments));
  ASSIGN_OR_RETURN(const int64_t most, IntegerArgument(bound[1], -1));
  const Text& text = self.AsText();
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size()));
  if (bound[0].IsMissing() || bound[0].IsNone()) {
    ASSIGN_OR_RETURN(auto words, SplitWhiteSpace(runtime, text, most, kRight));
    return runtime.NewList(std::move(words));
  }
  if (!bound[0].IsString()) return Raise(ErrorType::kTypeError, "must be str or None, not {}", bound[0].TypeName());
  if (bound[0].AsString().empty()) return Raise(ErrorType::kValueError, "empty separator");
  ASSIGN_OR_RETURN(auto parts, SplitOn(runtime, text, bound[0].AsString(), most, kRight));
  return runtime.NewList(std::move(parts));
}

template <bool kLast>
absl::StatusOr<Value> Partition(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(CheckCount(kLast ? "rpartition" : "partition", arguments, 1, 1));
  ASSIGN_OR_RETURN(const Text* separator, TextArgument("partition", arguments, 0));
  if (separator->bytes.empty()) return Raise(ErrorType::kValueError, "empty separator");
  const Text& text = self.AsText();
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size()));
  const size_t at =
      kLast ? FindLast(text.bytes, separator->bytes, text.bytes.size()) : FindFrom(text.bytes, separator->bytes, 0);
  const Value empty = Value::String("");
  if (at == kNotFound) {
    return kLast ? runtime.NewTuple({empty, empty, self}) : runtime.NewTuple({self, empty, empty});
  }
  ASSIGN_OR_RETURN(Value head, Piece(runtime, text, 0, at));
  ASSIGN_OR_RETURN(Value middle, Piece(runtime, text, at, at + separator->bytes.size()));
  ASSIGN_OR_RETURN(Value tail, Piece(runtime, text, at + separator->bytes.size(), text.bytes.size()));
  return runtime.NewTuple({std::move(head), std::move(middle), std::move(tail)});
}

absl::StatusOr<Value> ReplaceMethod(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(NoKeywords("replace", arguments));
  RETURN_IF_ERROR(CheckCount("replace", arguments, 2, 3));
  ASSIGN_OR_RETURN(const Text* from, TextArgument("replace", arguments, 0));
  ASSIGN_OR_RETURN(const Text* to, TextArgument("replace", arguments, 1));
  int64_t count = -1;
  if (arguments.positional.size() == 3) {
    if (arguments.positional[2].IsNone()) {
      return Raise(ErrorType::kTypeError, "'NoneType' object cannot be interpreted as an integer");
    }
    ASSIGN_OR_RETURN(count, IntegerArgument(arguments.positional[2], -1));
  }
  return Replace(runtime, self.AsText(), *from, *to, count);
}

absl::StatusOr<Value> JoinMethod(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(CheckCount("join", arguments, 1, 1));
  if (!IsIterable(arguments.positional[0])) return Raise(ErrorType::kTypeError, "can only join an iterable");
  ASSIGN_OR_RETURN(const std::vector<Value> items, Items(runtime, arguments.positional[0]));
  std::vector<Text> parts;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].IsString()) {
      return Raise(ErrorType::kTypeError, "sequence item {}: expected str instance, {} found", i, items[i].TypeName());
    }
    parts.push_back(items[i].AsText());
  }
  return Join(runtime, self.AsText(), parts);
}

template <std::string (*kMap)(std::string_view)>
absl::StatusOr<Value> MapCase(Runtime& runtime, const Value& self, Arguments&) {
  RETURN_IF_ERROR(runtime.budget().Scan(self.AsString().size() * 8));
  return runtime.NewText(DerivedText(kMap(self.AsString()), self.AsText()));
}

// Every code point satisfies the predicate, and there is one.
template <bool (*kPredicate)(char32_t)>
absl::StatusOr<Value> All(Runtime& runtime, const Value& self, Arguments&) {
  const std::string& text = self.AsString();
  RETURN_IF_ERROR(runtime.budget().Scan(text.size() * 8));
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeAt(text, at);
    if (!kPredicate(c.value)) return Value::Bool(false);
    at += c.bytes;
  }
  return Value::Bool(!text.empty());
}

// islower, isupper: no letter of the other case, and a letter.
template <bool kUpper>
absl::StatusOr<Value> AllCase(Runtime& runtime, const Value& self, Arguments&) {
  const std::string& text = self.AsString();
  RETURN_IF_ERROR(runtime.budget().Scan(text.size() * 8));
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeAt(text, at);
    if (kUpper ? IsLower(c.value) : IsUpper(c.value)) return Value::Bool(false);
    any = any || (kUpper ? IsUpper(c.value) : IsLower(c.value));
    at += c.bytes;
  }
  return Value::Bool(any);
}

absl::StatusOr<Value> IsTitle(Runtime& runtime, const Value& self, Arguments&) {
  const std::string& text = self.AsString();
  RETURN_IF_ERROR(runtime.budget().Scan(text.size() * 8));
  return Value::Bool(TitleCase(text) == text && ToLower(text) != ToUpper(text));
}

absl::StatusOr<Value> IsAsciiMethod(Runtime&, const Value& self, Arguments&) {
  return Value::Bool(IsAscii(self.AsString()));
}

absl::StatusOr<Value> IsIdentifierMethod(Runtime&, const Value& self, Arguments&) {
  return Value::Bool(IsIdentifier(self.AsString()));
}

absl::StatusOr<Value> IsPrintableMethod(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (self.AsString().empty()) return Value::Bool(true);
  return All<IsPrintable>(runtime, self, arguments);
}

enum class Pad { kLeft, kRight, kBoth };
template <Pad kPad>
absl::StatusOr<Value> Justify(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(CheckCount("ljust", arguments, 1, 2));
  ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(arguments.positional[0], 0));
  const Text* fill = TextAt(arguments, 1);
  const Text space{" ", {}, false};
  if (arguments.positional.size() == 2 && (fill == nullptr || CodePointCount(fill->bytes) != 1)) {
    return Raise(ErrorType::kTypeError, "The fill character must be exactly one character long");
  }
  if (fill == nullptr) fill = &space;
  if (kPad == Pad::kBoth) return Center(runtime, self.AsText(), width, *fill);
  const auto length = static_cast<int64_t>(CodePointCount(self.AsString()));
  const auto missing = static_cast<size_t>(std::max<int64_t>(width - length, 0));
  RETURN_IF_ERROR(runtime.budget().CheckLength(self.AsString().size() + missing));
  TextBuilder out;
  if (kPad == Pad::kLeft) out.AppendRepeated(*fill, missing);
  out.Append(self.AsText());
  if (kPad == Pad::kRight) out.AppendRepeated(*fill, missing);
  return runtime.NewText(out.Take());
}

absl::StatusOr<Value> ZeroFill(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(CheckCount("zfill", arguments, 1, 1));
  ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(arguments.positional[0], 0));
  const Text& text = self.AsText();
  const auto length = static_cast<int64_t>(CodePointCount(text.bytes));
  const auto missing = static_cast<size_t>(std::max<int64_t>(width - length, 0));
  RETURN_IF_ERROR(runtime.budget().CheckLength(text.bytes.size() + missing));
  const size_t sign = text.bytes.starts_with('+') || text.bytes.starts_with('-') ? 1 : 0;
  TextBuilder out;
  out.Append(text, 0, sign);
  out.Append(std::string(missing, '0'));
  out.Append(text, sign, text.bytes.size());
  return runtime.NewText(out.Take());
}

template <bool kPrefix>
absl::StatusOr<Value> RemoveAffix(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(CheckCount(kPrefix ? "removeprefix" : "removesuffix", arguments, 1, 1));
  ASSIGN_OR_RETURN(const Text* affix, TextArgument("removeprefix", arguments, 0));
  const std::string& text = self.AsString();
  if (!(kPrefix ? text.starts_with(affix->bytes) : text.ends_with(affix->bytes))) return self;
  return kPrefix ? Piece(runtime, self.AsText(), affix->bytes.size(), text.size())
                 : Piece(runtime, self.AsText(), 0, text.size() - affix->bytes.size());
}

absl::StatusOr<Value> SplitLinesMethod(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"splitlines", {"keepends"}, 0, 0}, arguments));
  ASSIGN_OR_RETURN(auto lines, SplitLines(runtime, self.AsText(), bound[0].Truthy()));
  return runtime.NewList(std::move(lines));
}

absl::StatusOr<Value> ExpandTabs(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"expandtabs", {"tabsize"}, 0, 0}, arguments));
  ASSIGN_OR_RETURN(const int64_t size, IntegerArgument(bound[0], 8));
  const Text& text = self.AsText();
  TextBuilder out;
  int64_t column = 0;
  for (size_t at = 0; at < text.bytes.size();) {
    const CodePoint c = DecodeAt(text.bytes, at);
    if (c.value == '\t') {
      const int64_t gap = size > 0 ? size - column % size : 0;
      RETURN_IF_ERROR(runtime.budget().CheckLength(out.size() + static_cast<size_t>(gap)));
      out.Append(std::string(static_cast<size_t>(gap), ' '));
      column += gap;
    } else {
      out.Append(text, at, at + c.bytes);
      column = c.value == '\n' || c.value == '\r' ? 0 : column + 1;
    }
    at += c.bytes;
  }
  return runtime.NewText(out.Take());
}

absl::StatusOr<Value> FormatMethod(Runtime& runtime, const Value& self, Arguments& arguments) {
  return FormatBraces(runtime, self.AsText(), arguments);
}

}  // namespace

Method FindStringMethod(std::string_view name) {
  using enum MethodAccess;
  struct Entry {
    MethodBody body = nullptr;
    bool no_arguments = false;
  };
  static const auto* const kTable =
      new absl::flat_hash_map<std::string_view, Entry>{{"capitalize", {MapCase<Capitalize>, true}},
                                                       {"casefold", {MapCase<ToLower>, true}},
                                                       {"center", {Justify<Pad::kBoth>, false}},
                                                       {"count", {Count, false}},
                                                       {"encode", {nullptr, false}},
                                                       {"endswith", {StartsOrEnds<false>, false}},
                                                       {"expandtabs", {ExpandTabs, false}},
                                                       {"find", {Find<false, false>, false}},
                                                       {"format", {FormatMethod, false}},
                                                       {"format_map", {nullptr, false}},
                                                       {"index", {Find<false, true>, false}},
                                                       {"isalnum", {All<IsAlnum>, true}},
                                                       {"isalpha", {All<IsAlpha>, true}},
                                                       {"isascii", {IsAsciiMethod, true}},
                                                       {"isdecimal", {All<IsDecimal>, true}},
                                                       {"isdigit", {All<IsDigit>, true}},
                                                       {"isidentifier", {IsIdentifierMethod, true}},
                                                       {"islower", {AllCase<false>, true}},
                                                       {"isnumeric", {All<IsNumeric>, true}},
                                                       {"isprintable", {IsPrintableMethod, true}},
                                                       {"isspace", {All<IsSpace>, true}},
                                                       {"istitle", {IsTitle, true}},
                                                       {"isupper", {AllCase<true>, true}},
                                                       {"join", {JoinMethod, false}},
                                                       {"ljust", {Justify<Pad::kRight>, false}},
                                                       {"lower", {MapCase<ToLower>, true}},
                                                       {"lstrip", {StripMethod<StripSide::kLeft>, false}},
                                                       {"maketrans", {nullptr, false}},
                                                       {"partition", {Partition<false>, false}},
                                                       {"removeprefix", {RemoveAffix<true>, false}},
                                                       {"removesuffix", {RemoveAffix<false>, false}},
                                                       {"replace", {ReplaceMethod, false}},
                                                       {"rfind", {Find<true, false>, false}},
                                                       {"rindex", {Find<true, true>, false}},
                                                       {"rjust", {Justify<Pad::kLeft>, false}},
                                                       {"rpartition", {Partition<true>, false}},
                                                       {"rsplit", {Split<true>, false}},
                                                       {"rstrip", {StripMethod<StripSide::kRight>, false}},
                                                       {"split", {Split<false>, false}},
                                                       {"splitlines", {SplitLinesMethod, false}},
                                                       {"startswith", {StartsOrEnds<true>, false}},
                                                       {"strip", {StripMethod<StripSide::kBoth>, false}},
                                                       {"swapcase", {MapCase<SwapCase>, true}},
                                                       {"title", {MapCase<TitleCase>, true}},
                                                       {"translate", {nullptr, false}},
                                                       {"upper", {MapCase<ToUpper>, true}},
                                                       {"zfill", {ZeroFill, false}}};
  const auto found = kTable->find(name);
  return found == kTable->end() ? Method{}
                                : Method{kAllowed, found->second.body, found->first, found->second.no_arguments};
}

}  // namespace conclave::jinja
