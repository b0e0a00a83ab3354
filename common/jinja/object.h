// SPDX-License-Identifier: Apache-2.0
// Values with behaviour of their own: namespaces, ranges, generators, loops, macros, methods, functions.
#pragma once

#include <absl/container/inlined_vector.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/value.h"

namespace conclave::jinja {

class Runtime;

// Arguments of one call.
struct Arguments {
  absl::InlinedVector<Value, 4> positional;
  std::vector<std::pair<Value, Value>> named;  // name (a string), value

  // Takes the named argument out, or returns a missing Value.
  Value TakeNamed(std::string_view name);
};

class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view TypeName() const = 0;                             // type(x).__name__
  virtual std::string_view QualifiedTypeName() const { return TypeName(); }  // as in "... object has no attribute"
  virtual bool Truthy() const { return true; }
  virtual bool IsCallable() const { return false; }
  virtual int depth() const { return 1; }
  // x.name; nothing when there is no such attribute.
  virtual absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name);
  virtual absl::StatusOr<Value> Call(Runtime& runtime, Arguments& arguments);
  virtual absl::Status Repr(Runtime& runtime, TextBuilder& out) const;
  // len(x); nothing when it has no length.
  virtual absl::StatusOr<std::optional<int64_t>> Length(Runtime& runtime);
};

template <typename T>
T* Value::AsObjectOf() const {
  return IsObject() ? dynamic_cast<T*>(&AsObject()) : nullptr;
}

// range(start, stop, step).
class Range final : public Object {
 public:
  Range(int64_t start, int64_t stop, int64_t step);
  std::string_view TypeName() const override { return "range"; }
  bool Truthy() const override { return length_ > 0; }
  absl::StatusOr<std::optional<int64_t>> Length(Runtime& runtime) override;
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override;
  absl::Status Repr(Runtime& runtime, TextBuilder& out) const override;
  int64_t length() const { return length_; }
  int64_t start() const { return start_; }
  int64_t step() const { return step_; }
  int64_t stop() const { return stop_; }
  int64_t At(int64_t index) const { return start_ + index * step_; }  // REQUIRES 0 <= index < length()

 private:
  int64_t start_, stop_, step_, length_;
};

// What Python's lazy filters return: a one-shot iterator without a length. The items are computed at once; an error
// met on the way is raised where a lazy iterator would have met it.
class Generator final : public Object {
 public:
  Generator(std::string_view type_name, std::vector<Value> items, absl::Status error);
  std::string_view TypeName() const override { return type_name_; }
  int depth() const override { return depth_; }
  // Moves the next item into `item`; false at the end.
  absl::StatusOr<bool> Next(Value* item);

 private:
  std::string_view type_name_;
  std::vector<Value> items_;
  size_t next_ = 0;
  absl::Status error_;
  int depth_ = 1;
};

class Namespace final : public Object {
 public:
  std::string_view TypeName() const override { return "Namespace"; }
  std::string_view QualifiedTypeName() const override { return "jinja2.utils.Namespace"; }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override;
  absl::Status Repr(Runtime& runtime, TextBuilder& out) const override;
  Dict& attributes() { return attributes_; }

 private:
  Dict attributes_;
};

// A method bound to its receiver, or a function of the program.
class Function final : public Object {
 public:
  using Body = std::function<absl::StatusOr<Value>(Runtime&, Arguments&)>;
  Function(std::string name, Body body, int depth = 1)
      : name_(std::move(name)), body_(std::move(body)), depth_(depth) {}
  std::string_view TypeName() const override { return "builtin_function_or_method"; }
  bool IsCallable() const override { return true; }
  int depth() const override { return depth_; }
  absl::StatusOr<Value> Call(Runtime& runtime, Arguments& arguments) override { return body_(runtime, arguments); }
  absl::Status Repr(Runtime& runtime, TextBuilder& out) const override;

 private:
  std::string name_;
  Body body_;
  int depth_;
};

}  // namespace conclave::jinja
