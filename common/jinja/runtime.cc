// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/runtime.h"

#include "common/jinja/methods.h"
#include "common/jinja/printing.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

// The static name of a value's type, as UndefinedInfo keeps it.
std::string_view OwnerType(const Value& value) {
  if (value.IsNone()) return "None";
  return value.IsObject() ? value.AsObject().QualifiedTypeName() : value.TypeName();
}

// Attributes every Python object has, all of them refused by the sandbox.
bool IsCommonDunder(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "__class__",  "__delattr__", "__dir__",          "__doc__",           "__eq__",           "__format__",
      "__ge__",     "__gt__",      "__hash__",         "__init__",          "__le__",           "__lt__",
      "__ne__",     "__new__",     "__reduce__",       "__repr__",          "__reduce_ex__",    "__setattr__",
      "__sizeof__", "__str__",     "__getattribute__", "__init_subclass__", "__subclasshook__", "__getstate__"};
  for (std::string_view known : kNames) {
    if (name == known) return true;
  }
  return false;
}

Value UnsafeAttribute(const Value& owner, const Value& name) {
  return Value::Undefined(
      std::make_shared<const UndefinedInfo>(UndefinedInfo{UndefinedInfo::Cause::kUnsafe, name, owner.TypeName(), ""}));
}

// getattr(owner, name) as far as templates can see it; nothing when there is no such attribute.
absl::StatusOr<std::optional<Value>> PythonAttribute(Runtime& runtime, const Value& owner, const Value& name) {
  const std::string& bytes = name.AsString();
  if (owner.IsObject()) {
    ASSIGN_OR_RETURN(std::optional<Value> attribute, owner.AsObject().Attribute(runtime, bytes));
    if (attribute.has_value()) {
      if (bytes.starts_with('_')) return std::optional<Value>(UnsafeAttribute(owner, name));
      return attribute;
    }
  } else if (const Method method = FindMethod(owner, bytes); method.access != MethodAccess::kNone) {
    if (method.access == MethodAccess::kUnsafe) return std::optional<Value>(UnsafeAttribute(owner, name));
    RETURN_IF_ERROR(runtime.budget().CheckDepth(owner.Depth() + 1));
    auto body = [method, owner](Runtime& r, Arguments& arguments) { return CallMethod(r, method, owner, arguments); };
    return std::optional<Value>(Value::OfObject(std::make_shared<Function>(bytes, std::move(body), owner.Depth() + 1)));
  }
  if (owner.IsSequence() && owner.AsSequence().flavor == Sequence::Flavor::kGroup) {
    if (bytes == "grouper") return std::optional<Value>(owner.AsSequence().items[0]);
    if (bytes == "list") return std::optional<Value>(owner.AsSequence().items[1]);
  }
  if (IsCommonDunder(bytes)) return std::optional<Value>(UnsafeAttribute(owner, name));
  return std::optional<Value>();
}

// owner[index] where it succeeds; nothing on TypeError and LookupError.
absl::StatusOr<std::optional<Value>> PythonItem(Runtime& runtime, const Value& owner, const Value& index) {
  if (owner.IsDict()) {
    const Value* found = owner.AsDict().Find(index, runtime.budget());
    return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
  }
  if (!index.IsIntegral()) return std::optional<Value>();
  int64_t at = index.AsInt();
  if (owner.IsList() || owner.IsTuple()) {
    const std::vector<Value>& items = owner.AsSequence().items;
    const auto count = static_cast<int64_t>(items.size());
    if (at < 0) at += count;
    if (at < 0 || at >= count) return std::optional<Value>();
    return std::optional<Value>(items[static_cast<size_t>(at)]);
  }
  if (owner.IsString()) {
    const Text& text = owner.AsText();
    RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size()));
    if (at < 0) at += static_cast<int64_t>(CodePointCount(text.bytes));
    if (at < 0) return std::optional<Value>();
    const size_t begin = ByteOffset(text.bytes, static_cast<size_t>(at));
    if (begin == text.bytes.size()) return std::optional<Value>();
    return std::optional<Value>(Value::OfText(Substring(text, begin, begin + DecodeAt(text.bytes, begin).bytes)));
  }
  if (const auto* range = owner.AsObjectOf<Range>()) {
    if (at < 0) at += range->length();
    if (at < 0 || at >= range->length()) return std::optional<Value>();
    return std::optional<Value>(Value::Int(range->At(at)));
  }
  return std::optional<Value>();
}

}  // namespace

Runtime::~Runtime() {
  for (const auto& entry : namespaces_) entry->attributes() = Dict();
}

absl::StatusOr<Value> Runtime::NewText(Text text) {
  RETURN_IF_ERROR(budget_.AllocateString(text.bytes.size() + text.user.size() * sizeof(ByteRange)));
  return Value::OfText(std::move(text));
}

absl::StatusOr<Value> Runtime::NewString(std::string bytes) { return NewText(Text{std::move(bytes), {}, false}); }

absl::StatusOr<Value> Runtime::NewSequence(Sequence::Flavor flavor, std::vector<Value> items) {
  RETURN_IF_ERROR(budget_.Allocate(items.size() * sizeof(Value)));
  Sequence sequence;
  sequence.flavor = flavor;
  sequence.items = std::move(items);
  Value value = Value::OfSequence(std::move(sequence));
  RETURN_IF_ERROR(budget_.CheckDepth(value.Depth()));
  return value;
}

absl::StatusOr<Value> Runtime::NewDict(Dict dict) {
  RETURN_IF_ERROR(budget_.Allocate(dict.entries().size() * 2 * sizeof(Value)));
  RETURN_IF_ERROR(budget_.CheckDepth(dict.depth()));
  return Value::OfDict(std::move(dict));
}

absl::StatusOr<Value> Runtime::NewGenerator(std::string_view type_name, std::vector<Value> items, absl::Status error) {
  RETURN_IF_ERROR(budget_.Allocate(items.size() * sizeof(Value)));
  Value value = Value::OfObject(std::make_shared<Generator>(type_name, std::move(items), std::move(error)));
  RETURN_IF_ERROR(budget_.CheckDepth(value.Depth()));
  return value;
}

absl::StatusOr<Value> Runtime::NewNamespace(Dict attributes) {
  RETURN_IF_ERROR(budget_.Allocate(sizeof(Namespace)));
  RETURN_IF_ERROR(budget_.CheckDepth(attributes.depth()));
  auto space = std::make_shared<Namespace>();
  space->attributes() = std::move(attributes);
  namespaces_.push_back(space);
  return Value::OfObject(std::move(space));
}

absl::Status Runtime::Assign(Namespace& target, const Value& name, Value value) {
  RETURN_IF_ERROR(budget_.CheckDepth(value.Depth() + 1));
  target.attributes().Set(name, std::move(value), budget_);
  return budget_.Step();
}

absl::Status Nesting::TooDeep() {
  return InvalidArgument(
      "TEMPLATE_LIMIT: evaluation nested more than {} deep (macros that call one another, or a "
      "namespace that holds itself)",
      kMaxEvaluationNesting);
}

absl::StatusOr<Cursor> Cursor::Over(const Value& value) {
  if (!IsIterable(value)) return Raise(ErrorType::kTypeError, "'{}' object is not iterable", value.TypeName());
  Cursor cursor;
  cursor.source_ = value;
  return cursor;
}

absl::StatusOr<bool> Cursor::Next(Runtime& runtime, Value* item) {
  RETURN_IF_ERROR(runtime.budget().Step());
  switch (source_.kind()) {
    case Value::Kind::kSequence: {
      const auto& items = source_.AsSequence().items;
      if (at_ >= items.size()) return false;
      *item = items[at_++];
      return true;
    }
    case Value::Kind::kDict: {
      const auto& entries = source_.AsDict().entries();
      if (at_ >= entries.size()) return false;
      *item = entries[at_++].key;
      return true;
    }
    case Value::Kind::kString: {
      const Text& text = source_.AsText();
      if (at_ >= text.bytes.size()) return false;
      const size_t end = at_ + DecodeAt(text.bytes, at_).bytes;
      ASSIGN_OR_RETURN(*item, runtime.NewText(Substring(text, at_, end)));
      at_ = end;
      return true;
    }
    case Value::Kind::kObject: {
      if (auto* generator = source_.AsObjectOf<Generator>()) return generator->Next(item);
      const auto* range = source_.AsObjectOf<Range>();
      if (range == nullptr || static_cast<int64_t>(at_) >= range->length()) return false;
      *item = Value::Int(range->At(static_cast<int64_t>(at_++)));
      return true;
    }
    default:
      return false;
  }
}

std::optional<int64_t> Cursor::Length() const {
  switch (source_.kind()) {
    case Value::Kind::kSequence:
      return static_cast<int64_t>(source_.AsSequence().items.size());
    case Value::Kind::kDict:
      return static_cast<int64_t>(source_.AsDict().entries().size());
    case Value::Kind::kString:
      return static_cast<int64_t>(CodePointCount(source_.AsString()));
    case Value::Kind::kUndefined:
      return 0;
    default:
      if (const auto* range = source_.AsObjectOf<Range>()) return range->length();
      return std::nullopt;
  }
}

bool IsIterable(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kString:
    case Value::Kind::kSequence:
    case Value::Kind::kDict:
      return true;
    case Value::Kind::kObject:
      return value.AsObjectOf<Generator>() != nullptr || value.AsObjectOf<Range>() != nullptr;
    default:
      return false;
  }
}

absl::StatusOr<std::vector<Value>> Items(Runtime& runtime, const Value& iterable) {
  ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(iterable));
  std::vector<Value> items;
  for (Value item;;) {
    ASSIGN_OR_RETURN(const bool more, cursor.Next(runtime, &item));
    if (!more) return items;
    items.push_back(std::move(item));
  }
}

absl::StatusOr<int64_t> Length(Runtime& runtime, const Value& value) {
  if (value.IsObject()) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> length, value.AsObject().Length(runtime));
    if (length.has_value()) return *length;
  } else if (IsIterable(value)) {
    if (value.IsString()) RETURN_IF_ERROR(runtime.budget().Scan(value.AsString().size()));
    ASSIGN_OR_RETURN(const Cursor cursor, Cursor::Over(value));
    return *cursor.Length();
  }
  return Raise(ErrorType::kTypeError, "object of type '{}' has no len()", value.TypeName());
}

absl::Status UndefinedError(const Value& undefined) {
  const UndefinedInfo* info = undefined.AsUndefined();
  if (info == nullptr) return Raise(ErrorType::kUndefinedError, "value is undefined");
  const bool named = info->name.IsString();
  switch (info->cause) {
    case UndefinedInfo::Cause::kHint:
      return RaiseMessage(ErrorType::kUndefinedError, info->hint);
    case UndefinedInfo::Cause::kUnsafe:
      return Raise(ErrorType::kSecurityError, "access to attribute {} of '{}' object is unsafe.",
                   QuotedRepr(info->name.AsString()), info->owner_type);
    case UndefinedInfo::Cause::kName:
      return Raise(ErrorType::kUndefinedError, "{} is undefined", named ? QuotedRepr(info->name.AsString()) : "None");
    case UndefinedInfo::Cause::kAttribute:
      break;
  }
  const std::string owner = info->owner_type == "None" ? "None" : fmt::format("{} object", info->owner_type);
  if (named) {
    return Raise(ErrorType::kUndefinedError, "'{}' has no attribute {}", owner, QuotedRepr(info->name.AsString()));
  }
  Runtime runtime(Limits{}, 0);
  const auto repr = Repr(runtime, info->name);
  return Raise(ErrorType::kUndefinedError, "{} has no element {}", owner, repr.ok() ? repr->bytes : "?");
}

Value UndefinedAttribute(const Value& owner, const Value& name) {
  return Value::Undefined(std::make_shared<const UndefinedInfo>(
      UndefinedInfo{UndefinedInfo::Cause::kAttribute, name, OwnerType(owner), ""}));
}

Value UndefinedHint(std::string hint) {
  return Value::Undefined(
      std::make_shared<const UndefinedInfo>(UndefinedInfo{UndefinedInfo::Cause::kHint, Value(), "", std::move(hint)}));
}

absl::StatusOr<Value> GetAttribute(Runtime& runtime, const Value& owner, const Value& name) {
  if (owner.IsUndefined()) return UndefinedError(owner);
  ASSIGN_OR_RETURN(std::optional<Value> attribute, PythonAttribute(runtime, owner, name));
  if (attribute.has_value()) return *std::move(attribute);
  if (owner.IsDict()) {
    const Value* item = owner.AsDict().Find(std::string_view(name.AsString()));
    if (item != nullptr) return *item;
  }
  return UndefinedAttribute(owner, name);
}

absl::StatusOr<Value> GetItem(Runtime& runtime, const Value& owner, const Value& index) {
  if (owner.IsUndefined()) return UndefinedError(owner);
  ASSIGN_OR_RETURN(std::optional<Value> item, PythonItem(runtime, owner, index));
  if (item.has_value()) return *std::move(item);
  if (index.IsString()) {
    ASSIGN_OR_RETURN(std::optional<Value> attribute, PythonAttribute(runtime, owner, index));
    if (attribute.has_value()) return *std::move(attribute);
  }
  return UndefinedAttribute(owner, index);
}

absl::StatusOr<Value> Call(Runtime& runtime, const Value& callee, Arguments& arguments) {
  if (callee.IsUndefined()) return UndefinedError(callee);
  if (!callee.IsObject()) return Raise(ErrorType::kTypeError, "'{}' object is not callable", callee.TypeName());
  return callee.AsObject().Call(runtime, arguments);
}

namespace {

std::string JoinNames(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += names.size() == 2 ? " and " : i + 1 == names.size() ? ", and " : ", ";
    out += names[i];
  }
  return out;
}

}  // namespace

absl::StatusOr<absl::InlinedVector<Value, 4>> Bind(const Parameters& parameters, Arguments& arguments) {
  const size_t count = parameters.names.size();
  const size_t given = arguments.positional.size();
  if (given > count) {
    const size_t most = count + parameters.implicit;
    const size_t least = parameters.required + parameters.implicit;
    const std::string range = least == most ? fmt::format("{}", most) : fmt::format("from {} to {}", least, most);
    return Raise(ErrorType::kTypeError, "{}() takes {} positional argument{} but {} were given", parameters.function,
                 range, most == 1 ? "" : "s", given + parameters.implicit);
  }
  absl::InlinedVector<Value, 4> bound(count);
  std::vector<bool> set(count, false);
  for (size_t i = 0; i < given; ++i) {
    bound[i] = std::move(arguments.positional[i]);
    set[i] = true;
  }
  for (auto& [name, value] : arguments.named) {
    size_t i = 0;
    while (i < count && std::data(parameters.names)[i] != name.AsString()) ++i;
    if (i == count) {
      return Raise(ErrorType::kTypeError, "{}() got an unexpected keyword argument {}", parameters.function,
                   QuotedRepr(name.AsString()));
    }
    if (set[i]) {
      return Raise(ErrorType::kTypeError, "{}() got multiple values for argument {}", parameters.function,
                   QuotedRepr(name.AsString()));
    }
    bound[i] = std::move(value);
    set[i] = true;
  }
  std::vector<std::string> absent;
  for (size_t i = 0; i < parameters.required; ++i) {
    if (!set[i]) absent.push_back(fmt::format("'{}'", std::data(parameters.names)[i]));
  }
  if (absent.empty()) return bound;
  return Raise(ErrorType::kTypeError, "{}() missing {} required positional argument{}: {}", parameters.function,
               absent.size(), absent.size() == 1 ? "" : "s", JoinNames(absent));
}

absl::StatusOr<int64_t> IntegerArgument(const Value& value, int64_t fallback) {
  if (value.IsMissing() || value.IsNone()) return fallback;
  if (value.IsUndefined()) return UndefinedError(value);
  if (value.IsIntegral()) return value.AsInt();
  return Raise(ErrorType::kTypeError, "'{}' object cannot be interpreted as an integer", value.TypeName());
}

}  // namespace conclave::jinja
