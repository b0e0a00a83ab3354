// SPDX-License-Identifier: Apache-2.0
// What the built-in functions of one rendering share, and the steps every one of them needs: making values within the
// budget, iterating, getting attributes and items, calling.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/budget.h"
#include "common/jinja/error.h"
#include "common/jinja/object.h"
#include "common/jinja/value.h"

namespace conclave::jinja {

class Runtime {
 public:
  Runtime(const Limits& limits, int64_t now_unix_seconds) : budget_(limits), now_(now_unix_seconds) {}
  // Namespaces can hold one another; emptying them here breaks the rings.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Budget& budget() { return budget_; }
  int64_t now_unix_seconds() const { return now_; }
  // Nested evaluations, macro calls and printed containers, over the whole rendering.
  int& nesting() { return nesting_; }
  int& call_depth() { return call_depth_; }

  // New values, charged.
  absl::StatusOr<Value> NewString(std::string bytes);
  absl::StatusOr<Value> NewText(Text text);
  absl::StatusOr<Value> NewSequence(Sequence::Flavor flavor, std::vector<Value> items);
  absl::StatusOr<Value> NewList(std::vector<Value> items) {
    return NewSequence(Sequence::Flavor::kList, std::move(items));
  }
  absl::StatusOr<Value> NewTuple(std::vector<Value> items) {
    return NewSequence(Sequence::Flavor::kTuple, std::move(items));
  }
  absl::StatusOr<Value> NewDict(Dict dict);
  absl::StatusOr<Value> NewGenerator(std::string_view type_name, std::vector<Value> items,
                                     absl::Status error = absl::OkStatus());
  absl::StatusOr<Value> NewNamespace(Dict attributes);
  // ns.name = value.
  absl::Status Assign(Namespace& target, const Value& name, Value value);

 private:
  Budget budget_;
  int64_t now_;
  int nesting_ = 0;
  int call_depth_ = 0;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

// One level of nested evaluation or printing, while it lives. Bounds the machine's stack over all active macro calls.
class Nesting {
 public:
  explicit Nesting(Runtime& runtime) : nesting_(runtime.nesting()) { ++nesting_; }
  ~Nesting() { --nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  absl::Status Check() const {
    if (nesting_ <= kMaxEvaluationNesting) return absl::OkStatus();
    return TooDeep();
  }

 private:
  static absl::Status TooDeep();

  int& nesting_;
};

// Goes once through anything that Python can iterate over.
class Cursor {
 public:
  Cursor() = default;
  // TypeError when `value` is not iterable.
  static absl::StatusOr<Cursor> Over(const Value& value);
  // Moves the next item into `item`; false at the end.
  absl::StatusOr<bool> Next(Runtime& runtime, Value* item);
  // The number of items in all, where it is known without iterating.
  std::optional<int64_t> Length() const;
  int depth() const { return source_.Depth(); }

 private:
  Value source_;
  size_t at_ = 0;
};

bool IsIterable(const Value& value);
// All items. For lists and tuples this copies; loops use a Cursor.
absl::StatusOr<std::vector<Value>> Items(Runtime& runtime, const Value& iterable);
// len(value).
absl::StatusOr<int64_t> Length(Runtime& runtime, const Value& value);

// The error that using an undefined value raises.
absl::Status UndefinedError(const Value& undefined);
// Undefined because `owner` has no such attribute or element.
Value UndefinedAttribute(const Value& owner, const Value& name);
Value UndefinedHint(std::string hint);

// owner.name, as jinja2's sandbox looks it up: attribute first, then item. `name` is a string.
absl::StatusOr<Value> GetAttribute(Runtime& runtime, const Value& owner, const Value& name);
// owner[index]: item first, then attribute.
absl::StatusOr<Value> GetItem(Runtime& runtime, const Value& owner, const Value& index);
// owner[start:stop:step]; missing or none bounds are open.
absl::StatusOr<Value> GetSlice(Runtime& runtime, const Value& owner, const Value& start, const Value& stop,
                               const Value& step);
absl::StatusOr<Value> Call(Runtime& runtime, const Value& callee, Arguments& arguments);

// Arguments bound to the parameters of a Python function, with Python's errors. Absent optional ones stay missing.
struct Parameters {
  std::string_view function;  // for messages: "do_default()"
  std::initializer_list<std::string_view> names;
  size_t required = 0;
  size_t implicit = 1;  // arguments before these (the filtered value), counted in messages
};
absl::StatusOr<absl::InlinedVector<Value, 4>> Bind(const Parameters& parameters, Arguments& arguments);

// An argument that must be an int (or bool); `fallback` when it is missing or none.
absl::StatusOr<int64_t> IntegerArgument(const Value& value, int64_t fallback);

}  // namespace conclave::jinja
