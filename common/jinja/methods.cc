// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/methods.h"

#include "common/jinja/printing.h"

namespace conclave::jinja {
namespace {

absl::Status NoKeywords(std::string_view name, const Arguments& arguments) {
  if (arguments.named.empty()) return absl::OkStatus();
  return Raise(ErrorType::kTypeError, "{} takes no keyword arguments", name);
}

absl::StatusOr<Value> IndexOf(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(NoKeywords("index()", arguments));
  if (arguments.positional.empty()) return Raise(ErrorType::kTypeError, "index expected at least 1 argument, got 0");
  const auto& items = self.AsSequence().items;
  for (size_t i = 0; i < items.size(); ++i) {
    RETURN_IF_ERROR(runtime.budget().Step());
    if (Equal(items[i], arguments.positional[0], runtime.budget())) return Value::Int(static_cast<int64_t>(i));
  }
  ASSIGN_OR_RETURN(const Text wanted, Repr(runtime, arguments.positional[0]));
  if (self.IsTuple()) return Raise(ErrorType::kValueError, "tuple.index(x): x not in tuple");
  return Raise(ErrorType::kValueError, "{} is not in list", wanted.bytes);
}

absl::StatusOr<Value> CountOf(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(NoKeywords("count()", arguments));
  if (arguments.positional.size() != 1) {
    return Raise(ErrorType::kTypeError, "{}.count() takes exactly one argument ({} given)", self.TypeName(),
                 arguments.positional.size());
  }
  int64_t count = 0;
  for (const Value& item : self.AsSequence().items) {
    RETURN_IF_ERROR(runtime.budget().Step());
    if (Equal(item, arguments.positional[0], runtime.budget())) ++count;
  }
  return Value::Int(count);
}

absl::StatusOr<Value> Copy(Runtime&, const Value& self, Arguments&) { return self; }

absl::StatusOr<Value> DictGet(Runtime& runtime, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(NoKeywords("dict.get()", arguments));
  const size_t given = arguments.positional.size();
  if (given == 0) return Raise(ErrorType::kTypeError, "get expected at least 1 argument, got 0");
  if (given > 2) return Raise(ErrorType::kTypeError, "get expected at most 2 arguments, got {}", given);
  const Value& key = arguments.positional[0];
  if (!IsHashable(key)) return Raise(ErrorType::kTypeError, "unhashable type: '{}'", key.TypeName());
  const Value* found = self.AsDict().Find(key, runtime.budget());
  if (found != nullptr) return *found;
  return given == 2 ? arguments.positional[1] : Value::None();
}

absl::StatusOr<Value> DictItems(Runtime& runtime, const Value& self, Arguments&) {
  std::vector<Value> items;
  items.reserve(self.AsDict().entries().size());
  for (const Dict::Entry& entry : self.AsDict().entries()) {
    ASSIGN_OR_RETURN(Value pair, runtime.NewTuple({entry.key, entry.value}));
    items.push_back(std::move(pair));
  }
  return runtime.NewSequence(Sequence::Flavor::kDictItems, std::move(items));
}

absl::StatusOr<Value> DictKeys(Runtime& runtime, const Value& self, Arguments&) {
  std::vector<Value> keys;
  for (const Dict::Entry& entry : self.AsDict().entries()) keys.push_back(entry.key);
  return runtime.NewSequence(Sequence::Flavor::kDictKeys, std::move(keys));
}

absl::StatusOr<Value> DictValues(Runtime& runtime, const Value& self, Arguments&) {
  std::vector<Value> values;
  for (const Dict::Entry& entry : self.AsDict().entries()) values.push_back(entry.value);
  return runtime.NewSequence(Sequence::Flavor::kDictValues, std::move(values));
}

absl::StatusOr<Value> IsInteger(Runtime&, const Value& self, Arguments&) {
  const double value = self.AsDouble();
  return Value::Bool(value == static_cast<double>(static_cast<int64_t>(value)));
}

absl::StatusOr<Value> BitLength(Runtime&, const Value& self, Arguments&) {
  const int64_t value = self.AsInt();
  const uint64_t magnitude = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  return Value::Int(magnitude == 0 ? 0 : 64 - __builtin_clzll(magnitude));
}

template <size_t N>
Method FindIn(const Method (&table)[N], std::string_view name) {
  for (const Method& method : table) {
    if (method.name == name) return method;
  }
  return Method{};
}

}  // namespace

Method FindListMethod(std::string_view name) {
  using enum MethodAccess;
  static constexpr Method kTable[] = {
      {kAllowed, IndexOf, "index"}, {kAllowed, CountOf, "count"},  {kAllowed, Copy, "copy", true},
      {kUnsafe, nullptr, "append"}, {kUnsafe, nullptr, "clear"},   {kUnsafe, nullptr, "pop"},
      {kUnsafe, nullptr, "insert"}, {kUnsafe, nullptr, "reverse"}, {kUnsafe, nullptr, "sort"},
      {kUnsafe, nullptr, "extend"}, {kUnsafe, nullptr, "remove"}};
  return FindIn(kTable, name);
}

Method FindTupleMethod(std::string_view name) {
  using enum MethodAccess;
  static constexpr Method kTable[] = {{kAllowed, IndexOf, "index"}, {kAllowed, CountOf, "count"}};
  return FindIn(kTable, name);
}

Method FindDictMethod(std::string_view name) {
  using enum MethodAccess;
  static constexpr Method kTable[] = {{kAllowed, DictGet, "get"},         {kAllowed, DictItems, "items", true},
                                      {kAllowed, DictKeys, "keys", true}, {kAllowed, DictValues, "values", true},
                                      {kAllowed, Copy, "copy", true},     {kAllowed, nullptr, "fromkeys"},
                                      {kUnsafe, nullptr, "clear"},        {kUnsafe, nullptr, "pop"},
                                      {kUnsafe, nullptr, "popitem"},      {kUnsafe, nullptr, "setdefault"},
                                      {kUnsafe, nullptr, "update"}};
  return FindIn(kTable, name);
}

Method FindNumberMethod(const Value& self, std::string_view name) {
  using enum MethodAccess;
  static constexpr Method kIntegerTable[] = {
      {kAllowed, BitLength, "bit_length", true}, {kAllowed, nullptr, "bit_count"}, {kAllowed, nullptr, "conjugate"},
      {kAllowed, nullptr, "as_integer_ratio"},   {kAllowed, nullptr, "to_bytes"},  {kAllowed, nullptr, "from_bytes"}};
  static constexpr Method kFloatTable[] = {{kAllowed, IsInteger, "is_integer", true},
                                           {kAllowed, nullptr, "as_integer_ratio"},
                                           {kAllowed, nullptr, "conjugate"},
                                           {kAllowed, nullptr, "hex"},
                                           {kAllowed, nullptr, "fromhex"}};
  return self.IsFloat() ? FindIn(kFloatTable, name) : FindIn(kIntegerTable, name);
}

Method FindMethod(const Value& self, std::string_view name) {
  switch (self.kind()) {
    case Value::Kind::kString:
      return FindStringMethod(name);
    case Value::Kind::kSequence:
      if (self.IsList()) return FindListMethod(name);
      return self.IsTuple() ? FindTupleMethod(name) : Method{};
    case Value::Kind::kDict:
      return FindDictMethod(name);
    case Value::Kind::kBool:
    case Value::Kind::kInt:
    case Value::Kind::kFloat:
      return FindNumberMethod(self, name);
    default:
      return Method{};
  }
}

absl::StatusOr<Value> CallMethod(Runtime& runtime, const Method& method, const Value& self, Arguments& arguments) {
  if (method.no_arguments && (!arguments.positional.empty() || !arguments.named.empty())) {
    const std::string_view type = self.IsString() ? "str" : self.TypeName();
    if (!arguments.named.empty()) {
      return Raise(ErrorType::kTypeError, "{}.{}() takes no keyword arguments", type, method.name);
    }
    return Raise(ErrorType::kTypeError, "{}.{}() takes no arguments ({} given)", type, method.name,
                 arguments.positional.size());
  }
  if (method.body != nullptr) return method.body(runtime, self, arguments);
  return Raise(ErrorType::kTypeError, "the method '{}' of '{}' objects is not supported in templates", method.name,
               self.TypeName());
}

}  // namespace conclave::jinja
