// SPDX-License-Identifier: Apache-2.0
// LONG FILE: the filters over lists, dicts and generators, one short function each.
#include <algorithm>

#include "common/jinja/builtins.h"
#include "common/jinja/methods.h"
#include "common/jinja/operators.h"
#include "common/jinja/printing.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

constexpr std::string_view kGenerator = "generator";

// Lower-cases strings, unless case matters.
absl::StatusOr<Value> CaseKey(Runtime& runtime, Value value, bool case_sensitive) {
  if (case_sensitive || !value.IsString()) return value;
  RETURN_IF_ERROR(runtime.budget().Scan(value.AsString().size() * 8));
  return runtime.NewString(ToLower(value.AsString()));
}

absl::StatusOr<Value> LengthFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"len", {}}, arguments).status());
  ASSIGN_OR_RETURN(const int64_t length, Length(runtime, self));
  return Value::Int(length);
}

absl::StatusOr<Value> Default(Runtime&, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_default", {"default_value", "boolean"}}, arguments));
  if (!self.IsUndefined() && !(bound[1].Truthy() && !self.Truthy())) return self;
  return bound[0].IsMissing() ? Value::String("") : bound[0];
}

absl::StatusOr<Value> First(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_first", {}}, arguments).status());
  ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  Value item;
  ASSIGN_OR_RETURN(const bool any, cursor.Next(runtime, &item));
  return any ? item : UndefinedHint("No first item, sequence was empty.");
}

absl::StatusOr<Value> Last(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_last", {}}, arguments).status());
  if (!IsIterable(self) || self.AsObjectOf<Generator>() != nullptr) {
    return Raise(ErrorType::kTypeError, "'{}' object is not reversible", self.TypeName());
  }
  if (self.IsString() && !self.AsString().empty()) {
    const Text& text = self.AsText();
    return runtime.NewText(
        Substring(text, text.bytes.size() - DecodeBefore(text.bytes, text.bytes.size()).bytes, text.bytes.size()));
  }
  if (self.IsSequence() && self.Truthy()) return self.AsSequence().items.back();
  ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime, self));
  return items.empty() ? UndefinedHint("No last item, sequence was empty.") : items.back();
}

absl::StatusOr<Value> ListFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_list", {}}, arguments).status());
  ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime, self));
  return runtime.NewList(std::move(items));
}

absl::StatusOr<Value> Reverse(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_reverse", {}}, arguments).status());
  if (self.IsString()) return GetSlice(runtime, self, Value(), Value(), Value::Int(-1));
  if (!IsIterable(self)) return Raise(ErrorType::kFilterArgumentError, "argument must be iterable");
  ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime, self));
  std::reverse(items.begin(), items.end());
  if (self.AsObjectOf<Generator>() != nullptr) return runtime.NewList(std::move(items));
  return runtime.NewGenerator(self.IsList() ? "list_reverseiterator" : "reversed", std::move(items));
}

absl::StatusOr<Value> ItemsFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"do_items", {}}, arguments).status());
  if (self.IsUndefined()) return runtime.NewGenerator(kGenerator, {});
  if (!self.IsDict()) {
    return runtime.NewGenerator(kGenerator, {},
                                Raise(ErrorType::kTypeError, "Can only get item pairs from a mapping."));
  }
  Arguments none;
  ASSIGN_OR_RETURN(const Value view, CallMethod(runtime, FindDictMethod("items"), self, none));
  return runtime.NewGenerator(kGenerator, view.AsSequence().items);
}

absl::StatusOr<Value> DictSort(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_dictsort", {"case_sensitive", "by", "reverse"}}, arguments));
  const std::string by = bound[1].IsString() ? bound[1].AsString() : "key";
  if (by != "key" && by != "value") {
    return Raise(ErrorType::kFilterArgumentError, "You can only sort by either \"key\" or \"value\"");
  }
  if (self.IsUndefined()) return UndefinedError(self);
  if (!self.IsDict()) return Raise(ErrorType::kAttributeError, "'{}' object has no attribute 'items'", self.TypeName());
  Arguments none;
  ASSIGN_OR_RETURN(const Value view, CallMethod(runtime, FindDictMethod("items"), self, none));
  std::vector<Value> items = view.AsSequence().items;
  std::vector<Value> keys;
  for (const Value& pair : items) {
    ASSIGN_OR_RETURN(Value key, CaseKey(runtime, pair.AsSequence().items[by == "key" ? 0 : 1], bound[0].Truthy()));
    keys.push_back(std::move(key));
  }
  RETURN_IF_ERROR(SortByKeys(runtime, bound[2].Truthy(), &keys, &items));
  return runtime.NewList(std::move(items));
}

absl::StatusOr<Value> Sort(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_sort", {"reverse", "case_sensitive", "attribute"}, 0, 2}, arguments));
  std::vector<AttributePath> paths;
  if (bound[2].IsString()) {
    const std::string& all = bound[2].AsString();
    for (size_t begin = 0; begin <= all.size();) {
      const size_t end = std::min(all.find(',', begin), all.size());
      paths.emplace_back(Value::String(all.substr(begin, end - begin)));
      begin = end + 1;
    }
  } else {
    paths.emplace_back(bound[2]);
  }
  ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime, self));
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const AttributePath& path : paths) {
      ASSIGN_OR_RETURN(Value part, path.Get(runtime, item));
      ASSIGN_OR_RETURN(part, CaseKey(runtime, std::move(part), bound[1].Truthy()));
      key.push_back(std::move(part));
    }
    ASSIGN_OR_RETURN(Value list, runtime.NewList(std::move(key)));
    keys.push_back(std::move(list));
  }
  RETURN_IF_ERROR(SortByKeys(runtime, bound[0].Truthy(), &keys, &items));
  return runtime.NewList(std::move(items));
}

absl::StatusOr<Value> Unique(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_unique", {"case_sensitive", "attribute"}, 0, 2}, arguments));
  const AttributePath path(bound[1]);
  ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime, self));
  Dict seen;
  std::vector<Value> kept;
  for (Value& item : items) {
    ASSIGN_OR_RETURN(Value key, path.Get(runtime, item));
    ASSIGN_OR_RETURN(key, CaseKey(runtime, std::move(key), bound[0].Truthy()));
    if (!IsHashable(key)) {
      return runtime.NewGenerator(kGenerator, std::move(kept),
                                  Raise(ErrorType::kTypeError, "unhashable type: '{}'", key.TypeName()));
    }
    if (seen.Find(key, runtime.budget()) != nullptr) continue;
    seen.Set(std::move(key), Value::None(), runtime.budget());
    RETURN_IF_ERROR(runtime.budget().Step());
    kept.push_back(std::move(item));
  }
  return runtime.NewGenerator(kGenerator, std::move(kept));
}

template <bool kMax>
absl::StatusOr<Value> Extreme(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({kMax ? "do_max" : "do_min", {"case_sensitive", "attribute"}, 0, 2}, arguments));
  const AttributePath path(bound[1]);
  ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime, self));
  if (items.empty()) return UndefinedHint("No aggregated item, sequence was empty.");
  Value best, best_key;
  for (Value& item : items) {
    ASSIGN_OR_RETURN(Value key, path.Get(runtime, item));
    ASSIGN_OR_RETURN(key, CaseKey(runtime, std::move(key), bound[0].Truthy()));
    bool better = best_key.IsMissing() && &item == &items.front();
    if (!better) {
      ASSIGN_OR_RETURN(better, Compare(runtime, kMax ? Comparison::kGreater : Comparison::kLess, key, best_key));
    }
    if (better) best = std::move(item), best_key = std::move(key);
  }
  return best;
}

absl::StatusOr<Value> GroupBy(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"sync_do_groupby", {"attribute", "default", "case_sensitive"}, 1, 2}, arguments));
  const AttributePath path(bound[0]);
  ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime, self));
  std::vector<Value> keys;
  const Value fallback = bound[1].IsNone() ? Value() : bound[1];
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, path.Get(runtime, item, fallback));
    ASSIGN_OR_RETURN(key, CaseKey(runtime, std::move(key), bound[2].Truthy()));
    keys.push_back(std::move(key));
  }
  RETURN_IF_ERROR(SortByKeys(runtime, false, &keys, &items));
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    size_t end = begin + 1;
    while (end < items.size() && Equal(keys[begin], keys[end], runtime.budget())) ++end;
    // The group is called what its first item calls it, in the item's own case.
    ASSIGN_OR_RETURN(Value name, path.Get(runtime, items[begin], fallback));
    std::vector<Value> members(items.begin() + static_cast<std::ptrdiff_t>(begin),
                               items.begin() + static_cast<std::ptrdiff_t>(end));
    ASSIGN_OR_RETURN(Value list, runtime.NewList(std::move(members)));
    ASSIGN_OR_RETURN(Value group, runtime.NewSequence(Sequence::Flavor::kGroup, {std::move(name), std::move(list)}));
    groups.push_back(std::move(group));
    begin = end;
  }
  return runtime.NewList(std::move(groups));
}

absl::StatusOr<Value> Batch(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_batch", {"linecount", "fill_with"}, 1}, arguments));
  ASSIGN_OR_RETURN(const int64_t count, IntegerArgument(bound[0], 0));
  ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime, self));
  std::vector<Value> batches, batch;
  auto flush = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(Value list, runtime.NewList(std::exchange(batch, {})));
    batches.push_back(std::move(list));
    return absl::OkStatus();
  };
  for (Value& item : items) {
    if (static_cast<int64_t>(batch.size()) == count) RETURN_IF_ERROR(flush());
    batch.push_back(std::move(item));
  }
  if (!batch.empty()) {
    const bool fill = !bound[1].IsMissing() && !bound[1].IsNone();
    if (fill && count > static_cast<int64_t>(batch.size())) {
      RETURN_IF_ERROR(
          runtime.budget().Allocate(static_cast<size_t>(std::min<int64_t>(count, 1 << 30)) * sizeof(Value)));
      batch.resize(static_cast<size_t>(count), bound[1]);
    }
    RETURN_IF_ERROR(flush());
  }
  return runtime.NewGenerator(kGenerator, std::move(batches));
}

absl::StatusOr<Value> SliceFilter(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"sync_do_slice", {"slices", "fill_with"}, 1}, arguments));
  ASSIGN_OR_RETURN(const int64_t slices, IntegerArgument(bound[0], 0));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Items(runtime, self));
  if (slices == 0) {
    return runtime.NewGenerator(kGenerator, {},
                                Raise(ErrorType::kZeroDivisionError, "integer division or modulo by zero"));
  }
  std::vector<Value> out;
  const auto length = static_cast<int64_t>(items.size());
  int64_t begin = 0;
  for (int64_t i = 0; i < slices; ++i) {
    RETURN_IF_ERROR(runtime.budget().Allocate(2 * kBytesPerStep));  // a list costs more than its items
    const bool extra = i < length % slices;
    const int64_t end = begin + length / slices + (extra ? 1 : 0);
    std::vector<Value> slice(items.begin() + begin, items.begin() + end);
    if (!extra && !bound[1].IsMissing() && !bound[1].IsNone()) slice.push_back(bound[1]);
    ASSIGN_OR_RETURN(Value list, runtime.NewList(std::move(slice)));
    out.push_back(std::move(list));
    begin = end;
  }
  return runtime.NewGenerator(kGenerator, std::move(out));
}

absl::StatusOr<Value> Attr(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_attr", {"name"}, 1, 2}, arguments));
  if (!bound[0].IsString()) {
    return Raise(ErrorType::kTypeError, "attribute name must be string, not '{}'", bound[0].TypeName());
  }
  // Only attributes count here, not items.
  if (self.IsDict() && FindDictMethod(bound[0].AsString()).access == MethodAccess::kNone) {
    return UndefinedAttribute(self, bound[0]);
  }
  return GetAttribute(runtime, self, bound[0]);
}

absl::StatusOr<Value> Map(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (!self.Truthy()) return runtime.NewGenerator(kGenerator, {});
  std::vector<Value> out;
  auto fail = [&](absl::Status status) { return runtime.NewGenerator(kGenerator, std::move(out), std::move(status)); };
  Value attribute, fallback;
  if (arguments.positional.empty()) {
    attribute = arguments.TakeNamed("attribute");
    if (attribute.IsMissing()) return fail(Raise(ErrorType::kFilterArgumentError, "map requires a filter argument"));
    fallback = arguments.TakeNamed("default");
    if (!arguments.named.empty()) {
      return fail(Raise(ErrorType::kFilterArgumentError, "Unexpected keyword argument {}",
                        QuotedRepr(arguments.named[0].first.AsString())));
    }
    if (fallback.IsNone()) fallback = Value();
  }
  ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  const AttributePath path(attribute);
  for (Value item;;) {
    const auto more = cursor.Next(runtime, &item);
    if (!more.ok()) return fail(more.status());
    if (!*more) break;
    absl::StatusOr<Value> mapped;
    if (arguments.positional.empty()) {
      mapped = path.Get(runtime, item, fallback);
    } else {
      Arguments inner{{arguments.positional.begin() + 1, arguments.positional.end()}, arguments.named};
      mapped = CallFilter(runtime, arguments.positional[0], item, inner);
    }
    if (!mapped.ok()) return fail(mapped.status());
    out.push_back(*std::move(mapped));
  }
  return runtime.NewGenerator(kGenerator, std::move(out));
}

template <bool kKeep, bool kByAttribute>
absl::StatusOr<Value> Select(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (!self.Truthy()) return runtime.NewGenerator(kGenerator, {});
  std::vector<Value> out;
  auto fail = [&](absl::Status status) { return runtime.NewGenerator(kGenerator, std::move(out), std::move(status)); };
  if (kByAttribute && arguments.positional.empty()) {
    return fail(Raise(ErrorType::kFilterArgumentError, "Missing parameter for attribute name"));
  }
  const AttributePath path(kByAttribute ? arguments.positional[0] : Value::None());
  constexpr size_t kSkip = kByAttribute ? 1 : 0;
  ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  for (Value item;;) {
    const auto more = cursor.Next(runtime, &item);
    if (!more.ok()) return fail(more.status());
    if (!*more) break;
    const auto subject = path.Get(runtime, item);
    if (!subject.ok()) return fail(subject.status());
    bool holds = subject->Truthy();
    if (arguments.positional.size() > kSkip) {
      Arguments inner{{arguments.positional.begin() + kSkip + 1, arguments.positional.end()}, arguments.named};
      const auto result = CallTest(runtime, arguments.positional[kSkip], *subject, inner);
      if (!result.ok()) return fail(result.status());
      holds = *result;
    }
    if (holds == kKeep) out.push_back(std::move(item));
  }
  return runtime.NewGenerator(kGenerator, std::move(out));
}

absl::StatusOr<Value> XmlAttributes(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_xmlattr", {"autospace"}, 0, 2}, arguments));
  if (self.IsUndefined()) return UndefinedError(self);
  if (!self.IsDict()) return Raise(ErrorType::kAttributeError, "'{}' object has no attribute 'items'", self.TypeName());
  TextBuilder out;
  for (const Dict::Entry& entry : self.AsDict().entries()) {
    RETURN_IF_ERROR(runtime.budget().Step());
    if (entry.value.IsNone() || entry.value.IsUndefined()) continue;
    ASSIGN_OR_RETURN(const Text key, Str(runtime, entry.key));
    if (key.bytes.find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      return Raise(ErrorType::kValueError, "Invalid character in attribute name: {}", QuotedRepr(key.bytes));
    }
    ASSIGN_OR_RETURN(const Text value, Str(runtime, entry.value));
    if (out.size() > 0 || bound[0].IsMissing() || bound[0].Truthy()) out.Append(' ');
    out.Append(EscapeHtml(key));
    out.Append("=\"");
    out.Append(EscapeHtml(value));
    out.Append('"');
    RETURN_IF_ERROR(runtime.budget().CheckLength(out.size()));
  }
  return runtime.NewText(out.Take());
}

}  // namespace

AttributePath::AttributePath(const Value& attribute) {
  if (attribute.IsMissing() || attribute.IsNone()) return;
  if (!attribute.IsString()) {
    steps_.push_back(attribute);
    return;
  }
  const Text& text = attribute.AsText();
  for (size_t begin = 0; begin <= text.bytes.size();) {
    const size_t end = std::min(text.bytes.find('.', begin), text.bytes.size());
    const std::string_view part = std::string_view(text.bytes).substr(begin, end - begin);
    const bool number = !part.empty() && part.size() <= 18 &&
                        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    steps_.push_back(number ? Value::Int(std::stoll(std::string(part))) : Value::OfText(Substring(text, begin, end)));
    begin = end + 1;
  }
}

absl::StatusOr<Value> AttributePath::Get(Runtime& runtime, const Value& item, const Value& fallback) const {
  Value value = item;
  for (const Value& step : steps_) {
    ASSIGN_OR_RETURN(value, GetItem(runtime, value, step));
    if (!fallback.IsMissing() && value.IsUndefined()) value = fallback;
  }
  return value;
}

FilterBody FindSequenceFilter(std::string_view name) {
  struct Entry {
    std::string_view name;
    FilterBody body;
  };
  static constexpr Entry kTable[] = {{"attr", Attr},
                                     {"batch", Batch},
                                     {"count", LengthFilter},
                                     {"d", Default},
                                     {"default", Default},
                                     {"dictsort", DictSort},
                                     {"first", First},
                                     {"groupby", GroupBy},
                                     {"items", ItemsFilter},
                                     {"last", Last},
                                     {"length", LengthFilter},
                                     {"list", ListFilter},
                                     {"map", Map},
                                     {"max", Extreme<true>},
                                     {"min", Extreme<false>},
                                     {"reject", Select<false, false>},
                                     {"rejectattr", Select<false, true>},
                                     {"reverse", Reverse},
                                     {"select", Select<true, false>},
                                     {"selectattr", Select<true, true>},
                                     {"slice", SliceFilter},
                                     {"sort", Sort},
                                     {"unique", Unique},
                                     {"xmlattr", XmlAttributes}};
  for (const Entry& entry : kTable) {
    if (entry.name == name) return entry.body;
  }
  return nullptr;
}

}  // namespace conclave::jinja
