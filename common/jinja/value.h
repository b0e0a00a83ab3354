// SPDX-License-Identifier: Apache-2.0
// Values of the template language: Python's, as far as templates can see them.
//
// A Value is small, cheap to copy, and immutable once shared (namespaces and loops, which a template may change, are
// Objects of one rendering). Values may be built on any thread and read from many.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/check.h"
#include "common/jinja/budget.h"
#include "common/jinja/text.h"

namespace conclave::jinja {

class Dict;
class Object;
class Value;
struct Sequence;
struct UndefinedInfo;

using HostFunction = std::function<absl::StatusOr<Value>(std::span<const Value> arguments)>;

class Value {
 public:
  enum class Kind : uint8_t { kUndefined, kNone, kBool, kInt, kFloat, kString, kSequence, kDict, kObject };

  // Undefined, without a name. Also what an absent argument or an empty variable holds.
  Value() = default;
  static Value None() { return Value(Kind::kNone, 0, nullptr); }
  static Value Bool(bool value) { return Value(Kind::kBool, value ? 1 : 0, nullptr); }
  static Value Int(int64_t value) { return Value(Kind::kInt, value, nullptr); }
  static Value Float(double value) { return Value(Kind::kFloat, std::bit_cast<int64_t>(value), nullptr); }
  // Text of the template's author or of the program: its special tokens are meant.
  static Value String(std::string bytes) { return OfText(Text{std::move(bytes), {}, false}); }
  // Text of a user or of a model: nothing in it may become a special token.
  static Value UserText(std::string bytes) { return OfText(MakeUserText(std::move(bytes))); }
  static Value OfText(Text text) { return Value(Kind::kString, 0, std::make_shared<const Text>(std::move(text))); }
  static Value List(std::vector<Value> items);
  static Value Tuple(std::vector<Value> items);
  static Value OfSequence(Sequence sequence);
  static Value OfDict(Dict dict);
  // A dict with these keys, in this order; a repeated key keeps its first place and its last value.
  static Value Object(std::vector<std::pair<std::string, Value>> entries);
  static Value OfObject(std::shared_ptr<jinja::Object> object) { return Value(Kind::kObject, 0, std::move(object)); }
  // A function of the program that templates may call, positional arguments only. It must not outlive what it captures.
  static Value Function(std::string name, HostFunction function);
  static Value Undefined(std::shared_ptr<const UndefinedInfo> info) {
    return Value(Kind::kUndefined, 0, std::move(info));
  }

  Kind kind() const { return kind_; }
  bool IsUndefined() const { return kind_ == Kind::kUndefined; }
  bool IsMissing() const { return IsUndefined() && shared_ == nullptr; }  // undefined, and not even named
  bool IsNone() const { return kind_ == Kind::kNone; }
  bool IsBool() const { return kind_ == Kind::kBool; }
  bool IsInt() const { return kind_ == Kind::kInt; }
  bool IsFloat() const { return kind_ == Kind::kFloat; }
  bool IsString() const { return kind_ == Kind::kString; }
  bool IsSequence() const { return kind_ == Kind::kSequence; }
  bool IsDict() const { return kind_ == Kind::kDict; }
  bool IsObject() const { return kind_ == Kind::kObject; }
  bool IsIntegral() const { return IsInt() || IsBool(); }  // Python's bool is an int
  bool IsNumber() const { return IsIntegral() || IsFloat(); }

  // REQUIRES the kind of their name; a number for AsDouble.
  bool AsBool() const { return Scalar(IsBool()) != 0; }
  int64_t AsInt() const { return Scalar(IsIntegral()); }
  double AsDouble() const {
    return IsFloat() ? std::bit_cast<double>(scalar_) : static_cast<double>(Scalar(IsIntegral()));
  }
  const Text& AsText() const { return Shared<Text>(Kind::kString); }
  const std::string& AsString() const { return AsText().bytes; }
  const Sequence& AsSequence() const { return Shared<Sequence>(Kind::kSequence); }
  const Dict& AsDict() const { return Shared<Dict>(Kind::kDict); }
  jinja::Object& AsObject() const { return const_cast<jinja::Object&>(Shared<jinja::Object>(Kind::kObject)); }
  template <typename T>
  T* AsObjectOf() const;  // null when it is no T
  // Null for undefined values without a name.
  const UndefinedInfo* AsUndefined() const {
    return IsUndefined() ? static_cast<const UndefinedInfo*>(shared_.get()) : nullptr;
  }

  bool IsList() const;
  bool IsTuple() const;  // groups too

  // Python's bool(value).
  bool Truthy() const;
  // Python's type(value).__name__.
  std::string_view TypeName() const;
  // 0 for scalars, 1 + the deepest item for containers.
  int Depth() const;
  // The same object, Python's `is`.
  bool IsSame(const Value& other) const;

 private:
  Value(Kind kind, int64_t scalar, std::shared_ptr<const void> shared)
      : kind_(kind), scalar_(scalar), shared_(std::move(shared)) {}

  int64_t Scalar(bool is_kind) const {
    CONCLAVE_CHECK(is_kind);
    return scalar_;
  }
  template <typename T>
  const T& Shared(Kind kind) const {
    CONCLAVE_CHECK(kind_ == kind);
    return *static_cast<const T*>(shared_.get());
  }

  Kind kind_ = Kind::kUndefined;
  int64_t scalar_ = 0;  // bool, int, and the bits of a float
  // The UndefinedInfo, Text, Sequence, Dict or jinja::Object, by kind.
  std::shared_ptr<const void> shared_;
};

// Why a value is undefined, for the error that using it raises.
struct UndefinedInfo {
  enum class Cause { kName, kAttribute, kHint, kUnsafe };
  Cause cause = Cause::kName;
  Value name;                   // the variable, attribute or element asked for
  std::string_view owner_type;  // kAttribute, kUnsafe: object_type_repr of its owner, without " object"
  std::string hint;             // kHint: the whole message
};

struct Sequence {
  enum class Flavor : uint8_t { kList, kTuple, kGroup, kDictKeys, kDictValues, kDictItems };
  Flavor flavor = Flavor::kList;  // kGroup: what groupby yields, a tuple with names
  std::vector<Value> items;
  int depth = 1;          // set by Value::OfSequence, as is the next
  bool hashable = false;  // a tuple of hashable items
};

// Insertion-ordered. Built by one owner, then shared read-only inside a Value.
class Dict {
 public:
  struct Entry {
    Value key;
    Value value;
  };

  const Value* Find(std::string_view key) const;
  // Any hashable key; 1, 1.0 and true are the same key. Null also when the key is not hashable.
  const Value* Find(const Value& key, Budget& budget) const;
  // REQUIRES a hashable key. A known key keeps its place.
  void Set(Value key, Value value, Budget& budget);
  void Set(std::string key, Value value);

  const std::vector<Entry>& entries() const { return entries_; }
  int depth() const { return depth_; }

 private:
  size_t Slot(size_t hash, const Value& key, Budget& budget) const;
  void SetHashed(size_t hash, Value key, Value value, Budget& budget);

  static constexpr size_t kIndexFrom = 8;  // smaller dicts are searched linearly

  std::vector<Entry> entries_;
  std::vector<size_t> hashes_;   // of entries_, in step
  std::vector<uint32_t> index_;  // open addressing: entry + 1, 0 = free; empty below kIndexFrom entries
  int depth_ = 1;
};

// Whether Python could use it as a dict key or set member.
bool IsHashable(const Value& value);
size_t Hash(const Value& value, Budget& budget);  // REQUIRES IsHashable(value)
// Python's ==.
bool Equal(const Value& a, const Value& b, Budget& budget);

}  // namespace conclave::jinja
