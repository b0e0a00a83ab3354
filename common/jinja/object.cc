// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/object.h"

#include <algorithm>

#include "common/jinja/printing.h"
#include "common/jinja/runtime.h"

namespace conclave::jinja {

Value Arguments::TakeNamed(std::string_view name) {
  for (auto it = named.begin(); it != named.end(); ++it) {
    if (it->first.AsString() != name) continue;
    Value value = std::move(it->second);
    named.erase(it);
    return value;
  }
  return Value();
}

absl::StatusOr<std::optional<Value>> Object::Attribute(Runtime&, std::string_view) { return std::optional<Value>(); }

absl::StatusOr<Value> Object::Call(Runtime&, Arguments&) {
  return Raise(ErrorType::kTypeError, "'{}' object is not callable", TypeName());
}

absl::Status Object::Repr(Runtime&, TextBuilder& out) const {
  // Python prints an address here; a template that prints one is broken either way.
  out.Append(fmt::format("<{} object>", QualifiedTypeName()));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<int64_t>> Object::Length(Runtime&) { return std::optional<int64_t>(); }

Range::Range(int64_t start, int64_t stop, int64_t step) : start_(start), stop_(stop), step_(step), length_(0) {
  const __int128 distance = step > 0 ? static_cast<__int128>(stop) - start : static_cast<__int128>(start) - stop;
  const __int128 stride = step > 0 ? step : -static_cast<__int128>(step);
  if (distance > 0) length_ = static_cast<int64_t>(std::min<__int128>((distance - 1) / stride + 1, INT64_MAX));
}

absl::StatusOr<std::optional<int64_t>> Range::Length(Runtime&) { return std::optional<int64_t>(length_); }

absl::StatusOr<std::optional<Value>> Range::Attribute(Runtime&, std::string_view name) {
  if (name == "start") return std::optional<Value>(Value::Int(start_));
  if (name == "stop") return std::optional<Value>(Value::Int(stop_));
  if (name == "step") return std::optional<Value>(Value::Int(step_));
  return std::optional<Value>();
}

absl::Status Range::Repr(Runtime&, TextBuilder& out) const {
  out.Append(step_ == 1 ? fmt::format("range({}, {})", start_, stop_)
                        : fmt::format("range({}, {}, {})", start_, stop_, step_));
  return absl::OkStatus();
}

Generator::Generator(std::string_view type_name, std::vector<Value> items, absl::Status error)
    : type_name_(type_name), items_(std::move(items)), error_(std::move(error)) {
  for (const Value& item : items_) depth_ = std::max(depth_, item.Depth() + 1);
}

absl::StatusOr<bool> Generator::Next(Value* item) {
  if (next_ < items_.size()) {
    *item = std::move(items_[next_++]);
    return true;
  }
  RETURN_IF_ERROR(std::exchange(error_, absl::OkStatus()));
  return false;
}

absl::StatusOr<std::optional<Value>> Namespace::Attribute(Runtime&, std::string_view name) {
  const Value* found = attributes_.Find(name);
  return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
}

absl::Status Namespace::Repr(Runtime& runtime, TextBuilder& out) const {
  out.Append("<Namespace {");
  bool first = true;
  for (const Dict::Entry& entry : attributes_.entries()) {
    if (!first) out.Append(", ");
    first = false;
    RETURN_IF_ERROR(AppendRepr(runtime, entry.key, &out));
    out.Append(": ");
    RETURN_IF_ERROR(AppendRepr(runtime, entry.value, &out));
  }
  out.Append("}>");
  return absl::OkStatus();
}

absl::Status Function::Repr(Runtime&, TextBuilder& out) const {
  out.Append(fmt::format("<built-in function {}>", name_));
  return absl::OkStatus();
}

}  // namespace conclave::jinja
