// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/value.h"

#include <absl/hash/hash.h>

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/jinja/object.h"
#include "common/jinja/operators.h"

namespace conclave::jinja {
namespace {

int DepthOf(const std::vector<Value>& items) {
  int depth = 1;
  for (const Value& item : items) depth = std::max(depth, item.Depth() + 1);
  return depth;
}

// Hashing and comparing inside a plain C++ caller (the host) need no limit.
Budget& Unlimited() {
  static thread_local Budget budget(Limits{.steps = INT64_MAX / 2});
  return budget;
}

}  // namespace

Value Value::OfSequence(Sequence sequence) {
  sequence.depth = DepthOf(sequence.items);
  sequence.hashable = (sequence.flavor == Sequence::Flavor::kTuple || sequence.flavor == Sequence::Flavor::kGroup) &&
                      std::all_of(sequence.items.begin(), sequence.items.end(), IsHashable);
  return Value(Kind::kSequence, 0, std::make_shared<const Sequence>(std::move(sequence)));
}

Value Value::List(std::vector<Value> items) { return OfSequence({Sequence::Flavor::kList, std::move(items)}); }

Value Value::Tuple(std::vector<Value> items) { return OfSequence({Sequence::Flavor::kTuple, std::move(items)}); }

Value Value::OfDict(Dict dict) { return Value(Kind::kDict, 0, std::make_shared<const Dict>(std::move(dict))); }

Value Value::Object(std::vector<std::pair<std::string, Value>> entries) {
  Dict dict;
  for (auto& [key, value] : entries) dict.Set(std::move(key), std::move(value));
  return OfDict(std::move(dict));
}

Value Value::Function(std::string name, HostFunction function) {
  auto body = [name, function = std::move(function)](Runtime&, Arguments& arguments) -> absl::StatusOr<Value> {
    if (!arguments.named.empty()) return Raise(ErrorType::kTypeError, "{}() takes no keyword arguments", name);
    return function(std::span<const Value>(arguments.positional.data(), arguments.positional.size()));
  };
  return OfObject(std::make_shared<jinja::Function>(std::move(name), std::move(body)));
}

bool Value::IsList() const { return IsSequence() && AsSequence().flavor == Sequence::Flavor::kList; }
bool Value::IsTuple() const {
  return IsSequence() &&
         (AsSequence().flavor == Sequence::Flavor::kTuple || AsSequence().flavor == Sequence::Flavor::kGroup);
}

bool Value::Truthy() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return AsBool();
    case Kind::kInt:
      return AsInt() != 0;
    case Kind::kFloat:
      return AsDouble() != 0;
    case Kind::kString:
      return !AsString().empty();
    case Kind::kSequence:
      // Views of dicts have a length too, so Python finds an empty one false.
      return !AsSequence().items.empty();
    case Kind::kDict:
      return !AsDict().entries().empty();
    case Kind::kObject:
      return AsObject().Truthy();
  }
  return false;
}

std::string_view Value::TypeName() const {
  switch (kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return AsText().markup ? "Markup" : "str";
    case Kind::kSequence:
      switch (AsSequence().flavor) {
        case Sequence::Flavor::kList:
          return "list";
        case Sequence::Flavor::kTuple:
          return "tuple";
        case Sequence::Flavor::kGroup:
          return "_GroupTuple";
        case Sequence::Flavor::kDictKeys:
          return "dict_keys";
        case Sequence::Flavor::kDictValues:
          return "dict_values";
        case Sequence::Flavor::kDictItems:
          return "dict_items";
      }
      break;
    case Kind::kDict:
      return "dict";
    case Kind::kObject:
      return AsObject().TypeName();
  }
  return "object";
}

int Value::Depth() const {
  switch (kind()) {
    case Kind::kSequence:
      return AsSequence().depth;
    case Kind::kDict:
      return AsDict().depth();
    case Kind::kObject:
      return AsObject().depth();
    default:
      return 0;
  }
}

bool Value::IsSame(const Value& other) const {
  return kind_ == other.kind_ && scalar_ == other.scalar_ && shared_ == other.shared_;
}

bool IsHashable(const Value& value) {
  if (value.IsDict()) return false;
  return !value.IsSequence() || value.AsSequence().hashable;
}

size_t Hash(const Value& value, Budget& budget) {
  switch (value.kind()) {
    case Value::Kind::kBool:
    case Value::Kind::kInt:
      return absl::HashOf(value.AsInt());
    case Value::Kind::kFloat: {
      const double number = value.AsDouble();
      if (number == std::floor(number) && std::abs(number) < 9.2e18) return absl::HashOf(static_cast<int64_t>(number));
      return absl::HashOf(number);
    }
    case Value::Kind::kString:
      budget.Spend(static_cast<int64_t>(value.AsString().size() / kBytesPerStep));
      return absl::HashOf(std::string_view(value.AsString()));
    case Value::Kind::kSequence: {
      size_t hash = 0x7461;
      for (const Value& item : value.AsSequence().items) {
        if (!budget.Spend(1)) break;
        hash = absl::HashOf(hash, Hash(item, budget));
      }
      return hash;
    }
    case Value::Kind::kObject:
      return absl::HashOf(&value.AsObject());
    default:
      return absl::HashOf(static_cast<int>(value.kind()));
  }
}

bool Equal(const Value& a, const Value& b, Budget& budget) {
  if (!budget.Spend(1)) return false;
  if (a.IsNumber() && b.IsNumber()) {
    return a.IsFloat() || b.IsFloat() ? a.AsDouble() == b.AsDouble() : a.AsInt() == b.AsInt();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kNone:
      return true;
    case Value::Kind::kString: {
      const std::string& x = a.AsString();
      const std::string& y = b.AsString();
      if (x.size() != y.size()) return false;
      if (&x == &y) return true;
      budget.Spend(static_cast<int64_t>(x.size() / kBytesPerStep));
      return x == y;
    }
    case Value::Kind::kSequence: {
      const Sequence& x = a.AsSequence();
      const Sequence& y = b.AsSequence();
      if (&x == &y) return true;
      if (a.IsTuple() != b.IsTuple() || (!a.IsTuple() && x.flavor != y.flavor) || x.items.size() != y.items.size())
        return false;
      for (size_t i = 0; i < x.items.size(); ++i) {
        if (!Equal(x.items[i], y.items[i], budget)) return false;
      }
      return true;
    }
    case Value::Kind::kDict: {
      const Dict& x = a.AsDict();
      const Dict& y = b.AsDict();
      if (&x == &y) return true;
      if (x.entries().size() != y.entries().size()) return false;
      for (const Dict::Entry& entry : x.entries()) {
        const Value* other = y.Find(entry.key, budget);
        if (other == nullptr || !Equal(entry.value, *other, budget)) return false;
      }
      return true;
    }
    case Value::Kind::kObject: {
      const auto* x = a.AsObjectOf<Range>();
      const auto* y = b.AsObjectOf<Range>();
      if (x == nullptr || y == nullptr) return a.IsSame(b);
      if (x->length() != y->length()) return false;
      return x->length() == 0 || (x->start() == y->start() && (x->length() == 1 || x->step() == y->step()));
    }
    default:
      return false;
  }
}

const Value* Dict::Find(std::string_view key) const {
  if (index_.empty()) {
    for (const Entry& entry : entries_) {
      if (entry.key.IsString() && entry.key.AsString() == key) return &entry.value;
    }
    return nullptr;
  }
  const size_t hash = absl::HashOf(key);
  for (size_t slot = hash & (index_.size() - 1);; slot = (slot + 1) & (index_.size() - 1)) {
    if (index_[slot] == 0) return nullptr;
    const uint32_t at = index_[slot] - 1;
    if (hashes_[at] == hash && entries_[at].key.IsString() && entries_[at].key.AsString() == key) {
      return &entries_[at].value;
    }
  }
}

const Value* Dict::Find(const Value& key, Budget& budget) const {
  if (key.IsString()) {
    budget.Spend(static_cast<int64_t>(key.AsString().size() / kBytesPerStep));
    return Find(std::string_view(key.AsString()));
  }
  if (!IsHashable(key)) return nullptr;
  const size_t at = Slot(Hash(key, budget), key, budget);
  return at < entries_.size() ? &entries_[at].value : nullptr;
}

// The entry of `key`, or entries_.size().
size_t Dict::Slot(size_t hash, const Value& key, Budget& budget) const {
  if (index_.empty()) {
    for (size_t at = 0; at < entries_.size(); ++at) {
      if (hashes_[at] == hash && Equal(entries_[at].key, key, budget)) return at;
    }
    return entries_.size();
  }
  for (size_t slot = hash & (index_.size() - 1);; slot = (slot + 1) & (index_.size() - 1)) {
    if (index_[slot] == 0) return entries_.size();
    const uint32_t at = index_[slot] - 1;
    if (hashes_[at] == hash && Equal(entries_[at].key, key, budget)) return at;
  }
}

void Dict::SetHashed(size_t hash, Value key, Value value, Budget& budget) {
  depth_ = std::max({depth_, value.Depth() + 1, key.Depth() + 1});
  const size_t at = Slot(hash, key, budget);
  if (at < entries_.size()) {
    entries_[at].value = std::move(value);
    return;
  }
  entries_.push_back({std::move(key), std::move(value)});
  hashes_.push_back(hash);
  if (entries_.size() < kIndexFrom) return;
  const size_t first = entries_.size() * 2 > index_.size() ? 0 : entries_.size() - 1;
  if (first == 0) index_.assign(std::max<size_t>(32, index_.size() * 2), 0);
  for (size_t entry = first; entry < entries_.size(); ++entry) {
    size_t slot = hashes_[entry] & (index_.size() - 1);
    while (index_[slot] != 0) slot = (slot + 1) & (index_.size() - 1);
    index_[slot] = static_cast<uint32_t>(entry + 1);
  }
}

void Dict::Set(Value key, Value value, Budget& budget) {
  CONCLAVE_CHECK(IsHashable(key));
  const size_t hash = Hash(key, budget);
  SetHashed(hash, std::move(key), std::move(value), budget);
}

void Dict::Set(std::string key, Value value) { Set(Value::String(std::move(key)), std::move(value), Unlimited()); }

}  // namespace conclave::jinja
