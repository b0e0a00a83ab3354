// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "common/jinja/format.h"
#include "common/jinja/numbers.h"
#include "common/jinja/printing.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

std::string_view Symbol(BinaryOperator op) {
  static constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
  return kSymbols[static_cast<size_t>(op)];
}

absl::Status Unsupported(BinaryOperator op, const Value& a, const Value& b) {
  return Raise(ErrorType::kTypeError, "unsupported operand type(s) for {}: '{}' and '{}'", Symbol(op), a.TypeName(),
               b.TypeName());
}

absl::Status Overflow() {
  return InvalidArgument("TEMPLATE_LIMIT: an integer outside 64 bits; compute with floats instead");
}

absl::StatusOr<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return Raise(ErrorType::kZeroDivisionError, "0.0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value::Int(exponent == 0 ? 1 : base);
  if (base == -1) return Value::Int(exponent % 2 == 0 ? 1 : -1);
  int64_t result = 1;
  for (; exponent > 0; --exponent) {  // at most 63 rounds before it overflows
    if (__builtin_mul_overflow(result, base, &result)) return Overflow();
  }
  return Value::Int(result);
}

absl::StatusOr<Value> ApplyIntegers(BinaryOperator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case BinaryOperator::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case BinaryOperator::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case BinaryOperator::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case BinaryOperator::kDivide:
      if (b == 0) return Raise(ErrorType::kZeroDivisionError, "division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOperator::kFloorDivide:
      if (b == 0) return Raise(ErrorType::kZeroDivisionError, "integer division or modulo by zero");
      overflow = a == INT64_MIN && b == -1;
      if (!overflow) result = FloorDivide(a, b);
      break;
    case BinaryOperator::kModulo:
      if (b == 0) return Raise(ErrorType::kZeroDivisionError, "integer modulo by zero");
      result = FloorModulo(a, b);
      break;
    case BinaryOperator::kPower:
      return IntegerPower(a, b);
  }
  if (overflow) return Overflow();
  return Value::Int(result);
}

absl::StatusOr<Value> ApplyFloats(BinaryOperator op, double a, double b) {
  switch (op) {
    case BinaryOperator::kAdd:
      return Value::Float(a + b);
    case BinaryOperator::kSubtract:
      return Value::Float(a - b);
    case BinaryOperator::kMultiply:
      return Value::Float(a * b);
    case BinaryOperator::kDivide:
      if (b == 0) return Raise(ErrorType::kZeroDivisionError, "float division by zero");
      return Value::Float(a / b);
    case BinaryOperator::kFloorDivide:
      if (b == 0) return Raise(ErrorType::kZeroDivisionError, "float floor division by zero");
      return Value::Float(FloorDivide(a, b));
    case BinaryOperator::kModulo:
      if (b == 0) return Raise(ErrorType::kZeroDivisionError, "float modulo");
      return Value::Float(FloorModulo(a, b));
    case BinaryOperator::kPower: {
      if (a == 0 && b < 0) return Raise(ErrorType::kZeroDivisionError, "0.0 cannot be raised to a negative power");
      const double power = std::pow(a, b);
      if (std::isinf(power) && std::isfinite(a) && std::isfinite(b)) {
        return Raise(ErrorType::kOverflowError, "(34, 'Numerical result out of range')");
      }
      if (std::isnan(power) && !std::isnan(a) && !std::isnan(b)) {
        return Raise(ErrorType::kValueError, "{} ** {} is complex; templates know real numbers only", a, b);
      }
      return Value::Float(power);
    }
  }
  return Value();
}

absl::StatusOr<Value> Concatenate(Runtime& runtime, const Value& a, const Value& b) {
  if (a.IsString() && b.IsString()) {
    const Text& left = a.AsText();
    const Text& right = b.AsText();
    const bool markup = left.markup || right.markup;
    TextBuilder out;
    RETURN_IF_ERROR(runtime.budget().CheckLength(left.bytes.size() + right.bytes.size()));
    out.Reserve(left.bytes.size() + right.bytes.size());
    markup && !left.markup ? out.Append(EscapeHtml(left)) : out.Append(left);
    markup && !right.markup ? out.Append(EscapeHtml(right)) : out.Append(right);
    Text text = out.Take();
    text.markup = markup;
    return runtime.NewText(std::move(text));
  }
  const bool sequences = (a.IsList() && b.IsList()) || (a.IsTuple() && b.IsTuple());
  if (sequences) {
    std::vector<Value> items = a.AsSequence().items;
    const auto& more = b.AsSequence().items;
    items.insert(items.end(), more.begin(), more.end());
    return runtime.NewSequence(a.AsSequence().flavor, std::move(items));
  }
  if (a.IsString() || a.IsList() || a.IsTuple()) {
    const std::string_view type = a.IsString() ? "str" : a.TypeName();
    return Raise(ErrorType::kTypeError, "can only concatenate {} (not \"{}\") to {}", type, b.TypeName(), type);
  }
  return Unsupported(BinaryOperator::kAdd, a, b);
}

absl::StatusOr<Value> Repeat(Runtime& runtime, const Value& a, const Value& b) {
  const bool a_repeats = a.IsString() || a.IsList() || a.IsTuple();
  const bool b_repeats = b.IsString() || b.IsList() || b.IsTuple();
  if (!a_repeats && !b_repeats) return Unsupported(BinaryOperator::kMultiply, a, b);
  const Value& sequence = a_repeats ? a : b;
  const Value& times = a_repeats ? b : a;
  if (!times.IsIntegral()) {
    return Raise(ErrorType::kTypeError, "can't multiply sequence by non-int of type '{}'", times.TypeName());
  }
  const auto count = static_cast<size_t>(std::max<int64_t>(times.AsInt(), 0));
  const size_t unit = sequence.IsString() ? sequence.AsString().size() : sequence.AsSequence().items.size();
  size_t total = 0;
  if (__builtin_mul_overflow(unit, count, &total)) total = SIZE_MAX / 64;
  if (sequence.IsString()) {
    RETURN_IF_ERROR(runtime.budget().AllocateString(total));
    TextBuilder out;
    if (unit > 0) out.AppendRepeated(sequence.AsText(), count);
    Text text = out.Take();
    text.markup = sequence.AsText().markup;
    return Value::OfText(std::move(text));
  }
  RETURN_IF_ERROR(runtime.budget().Allocate(std::min(total, SIZE_MAX / 64) * sizeof(Value)));
  std::vector<Value> items;
  const auto& from = sequence.AsSequence().items;
  for (size_t i = 0; unit > 0 && i < count; ++i) items.insert(items.end(), from.begin(), from.end());
  return runtime.NewSequence(sequence.AsSequence().flavor, std::move(items));
}

// a < b. `symbol` names the operator in the error.
absl::StatusOr<bool> Less(Runtime& runtime, const Value& a, const Value& b, std::string_view symbol, bool swapped) {
  RETURN_IF_ERROR(runtime.budget().Step());
  if (a.IsNumber() && b.IsNumber()) {
    return a.IsFloat() || b.IsFloat() ? a.AsDouble() < b.AsDouble() : a.AsInt() < b.AsInt();
  }
  const Value& left = swapped ? b : a;  // as the template has them
  const Value& right = swapped ? a : b;
  if (left.IsUndefined()) return UndefinedError(left);
  if (right.IsUndefined()) return UndefinedError(right);
  if (a.IsString() && b.IsString()) {
    // UTF-8 sorts as its code points do.
    RETURN_IF_ERROR(runtime.budget().Scan(std::min(a.AsString().size(), b.AsString().size())));
    return a.AsString() < b.AsString();
  }
  if ((a.IsList() && b.IsList()) || (a.IsTuple() && b.IsTuple())) {
    const auto& x = a.AsSequence().items;
    const auto& y = b.AsSequence().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!x[i].IsSame(y[i]) && !Equal(x[i], y[i], runtime.budget())) return Less(runtime, x[i], y[i], symbol, swapped);
      RETURN_IF_ERROR(runtime.budget().Step());
    }
    return x.size() < y.size();
  }
  return Raise(ErrorType::kTypeError, "'{}' not supported between instances of '{}' and '{}'", symbol, left.TypeName(),
               right.TypeName());
}

}  // namespace

absl::StatusOr<Value> Apply(Runtime& runtime, BinaryOperator op, const Value& a, const Value& b) {
  if (a.IsIntegral() && b.IsIntegral()) return ApplyIntegers(op, a.AsInt(), b.AsInt());
  if (a.IsNumber() && b.IsNumber()) return ApplyFloats(op, a.AsDouble(), b.AsDouble());
  if (op == BinaryOperator::kModulo && a.IsString()) return FormatPercent(runtime, a.AsText(), b);
  if (a.IsUndefined()) return UndefinedError(a);
  if (b.IsUndefined()) return UndefinedError(b);
  if (op == BinaryOperator::kAdd) return Concatenate(runtime, a, b);
  if (op == BinaryOperator::kMultiply) return Repeat(runtime, a, b);
  return Unsupported(op, a, b);
}

absl::StatusOr<Value> Negate(const Value& value) {
  if (value.IsUndefined()) return UndefinedError(value);
  if (value.IsFloat()) return Value::Float(-value.AsDouble());
  if (!value.IsIntegral()) return Raise(ErrorType::kTypeError, "bad operand type for unary -: '{}'", value.TypeName());
  if (value.AsInt() == INT64_MIN) return Overflow();
  return Value::Int(-value.AsInt());
}

absl::StatusOr<Value> Plus(const Value& value) {
  if (value.IsUndefined()) return UndefinedError(value);
  if (value.IsFloat()) return value;
  if (!value.IsIntegral()) return Raise(ErrorType::kTypeError, "bad operand type for unary +: '{}'", value.TypeName());
  return Value::Int(value.AsInt());
}

absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.IsString()) {
    if (item.IsUndefined() || !item.IsString()) {
      return Raise(ErrorType::kTypeError, "'in <string>' requires string as left operand, not {}", item.TypeName());
    }
    const std::string& text = container.AsString();
    const std::string& part = item.AsString();
    RETURN_IF_ERROR(runtime.budget().Scan(2 * (text.size() + part.size())));
    return part.empty() || memmem(text.data(), text.size(), part.data(), part.size()) != nullptr;
  }
  if (container.IsDict()) {
    if (!IsHashable(item)) return Raise(ErrorType::kTypeError, "unhashable type: '{}'", item.TypeName());
    return container.AsDict().Find(item, runtime.budget()) != nullptr;
  }
  if (!IsIterable(container)) {
    return Raise(ErrorType::kTypeError, "argument of type '{}' is not iterable", container.TypeName());
  }
  ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(container));
  for (Value candidate;;) {
    ASSIGN_OR_RETURN(const bool more, cursor.Next(runtime, &candidate));
    if (!more) return false;
    if (candidate.IsSame(item) || Equal(candidate, item, runtime.budget())) return true;
  }
}

absl::StatusOr<bool> Compare(Runtime& runtime, Comparison op, const Value& a, const Value& b) {
  switch (op) {
    case Comparison::kEqual:
    case Comparison::kNotEqual: {
      const bool equal = Equal(a, b, runtime.budget());
      RETURN_IF_ERROR(runtime.budget().Step(0));
      return equal == (op == Comparison::kEqual);
    }
    case Comparison::kLess:
      return Less(runtime, a, b, "<", false);
    case Comparison::kGreater:
      return Less(runtime, b, a, ">", true);
    case Comparison::kLessEqual:
    case Comparison::kGreaterEqual: {
      const bool greater = op == Comparison::kGreaterEqual;
      if (a.IsNumber() && b.IsNumber()) {
        const bool floats = a.IsFloat() || b.IsFloat();
        if (greater) return floats ? a.AsDouble() >= b.AsDouble() : a.AsInt() >= b.AsInt();
        return floats ? a.AsDouble() <= b.AsDouble() : a.AsInt() <= b.AsInt();
      }
      const Value& low = greater ? b : a;
      const Value& high = greater ? a : b;
      ASSIGN_OR_RETURN(const bool less, Less(runtime, low, high, greater ? ">=" : "<=", greater));
      return less || Equal(a, b, runtime.budget());
    }
    case Comparison::kIn:
      return Contains(runtime, b, a);
    case Comparison::kNotIn: {
      ASSIGN_OR_RETURN(const bool in, Contains(runtime, b, a));
      return !in;
    }
  }
  return false;
}

absl::Status SortByKeys(Runtime& runtime, bool reverse, std::vector<Value>* keys, std::vector<Value>* items) {
  std::vector<size_t> order(items->size());
  std::iota(order.begin(), order.end(), size_t{0});
  absl::Status status;
  // After an error every comparison says "not less", which any merge of the stable sort survives.
  std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) {
    if (!status.ok()) return false;
    const auto less =
        reverse ? Less(runtime, (*keys)[y], (*keys)[x], "<", false) : Less(runtime, (*keys)[x], (*keys)[y], "<", false);
    if (!less.ok()) status = less.status();
    return less.ok() && *less;
  });
  RETURN_IF_ERROR(status);
  std::vector<Value> sorted_keys, sorted_items;
  sorted_keys.reserve(order.size());
  sorted_items.reserve(order.size());
  for (size_t at : order) {
    sorted_keys.push_back(std::move((*keys)[at]));
    sorted_items.push_back(std::move((*items)[at]));
  }
  *keys = std::move(sorted_keys);
  *items = std::move(sorted_items);
  return absl::OkStatus();
}

namespace {

// Python's slice.indices(length).
struct SliceIndices {
  int64_t start = 0;
  int64_t step = 1;
  int64_t count = 0;
};

absl::StatusOr<std::optional<int64_t>> SliceBound(const Value& value) {
  if (value.IsMissing() || value.IsNone()) return std::optional<int64_t>();
  if (value.IsIntegral()) return std::optional<int64_t>(value.AsInt());
  return Raise(ErrorType::kTypeError, "slice indices must be integers or None or have an __index__ method");
}

absl::StatusOr<SliceIndices> ResolveSlice(int64_t length, const Value& start, const Value& stop, const Value& step) {
  SliceIndices out;
  ASSIGN_OR_RETURN(const std::optional<int64_t> step_value, SliceBound(step));
  ASSIGN_OR_RETURN(const std::optional<int64_t> first, SliceBound(start));
  ASSIGN_OR_RETURN(const std::optional<int64_t> last, SliceBound(stop));
  out.step = step_value.value_or(1);
  if (out.step == 0) return Raise(ErrorType::kValueError, "slice step cannot be zero");
  out.step = std::max(out.step, -INT64_MAX);
  const bool down = out.step < 0;
  const int64_t lowest = down ? -1 : 0;
  const int64_t highest = down ? length - 1 : length;
  auto clamp = [&](std::optional<int64_t> bound, int64_t fallback) {
    if (!bound.has_value()) return fallback;
    const int64_t at = *bound < 0 ? (*bound < -length ? lowest : *bound + length) : *bound;
    return std::clamp(at, lowest, std::max(lowest, highest));
  };
  out.start = clamp(first, down ? highest : lowest);
  const int64_t end = clamp(last, down ? lowest : highest);
  const int64_t distance = down ? out.start - end : end - out.start;
  const int64_t stride = down ? -out.step : out.step;
  if (distance > 0) out.count = (distance - 1) / stride + 1;
  return out;
}

absl::StatusOr<Value> SliceText(Runtime& runtime, const Text& text, const Value& start, const Value& stop,
                                const Value& step) {
  RETURN_IF_ERROR(runtime.budget().Scan(text.bytes.size() * 2));
  const bool ascii = CodePointCount(text.bytes) == text.bytes.size();
  const auto length = static_cast<int64_t>(ascii ? text.bytes.size() : CodePointCount(text.bytes));
  ASSIGN_OR_RETURN(const SliceIndices slice, ResolveSlice(length, start, stop, step));
  Text out;
  if (slice.step == 1) {
    const size_t first = ByteOffset(text.bytes, static_cast<size_t>(slice.start));
    const size_t size = ByteOffset(std::string_view(text.bytes).substr(first), static_cast<size_t>(slice.count));
    out = Substring(text, first, first + size);
  } else if (slice.count > 0) {
    std::vector<size_t> offsets;
    for (size_t at = 0; at < text.bytes.size(); at += DecodeAt(text.bytes, at).bytes) offsets.push_back(at);
    offsets.push_back(text.bytes.size());
    RETURN_IF_ERROR(runtime.budget().Scan(offsets.size() * sizeof(size_t)));
    TextBuilder builder;
    for (int64_t i = 0; i < slice.count; ++i) {
      const auto at = static_cast<size_t>(slice.start + i * slice.step);
      builder.Append(text, offsets[at], offsets[at + 1]);
    }
    out = builder.Take();
  }
  out.markup = text.markup;
  return runtime.NewText(std::move(out));
}

}  // namespace

absl::StatusOr<Value> GetSlice(Runtime& runtime, const Value& owner, const Value& start, const Value& stop,
                               const Value& step) {
  if (owner.IsUndefined()) return UndefinedError(owner);
  if (owner.IsString()) return SliceText(runtime, owner.AsText(), start, stop, step);
  if (owner.IsList() || owner.IsTuple()) {
    const auto& items = owner.AsSequence().items;
    ASSIGN_OR_RETURN(const SliceIndices slice, ResolveSlice(static_cast<int64_t>(items.size()), start, stop, step));
    std::vector<Value> out;
    out.reserve(static_cast<size_t>(slice.count));
    for (int64_t i = 0; i < slice.count; ++i) out.push_back(items[static_cast<size_t>(slice.start + i * slice.step)]);
    return runtime.NewSequence(owner.AsSequence().flavor, std::move(out));
  }
  if (const auto* range = owner.AsObjectOf<Range>()) {
    ASSIGN_OR_RETURN(const SliceIndices slice, ResolveSlice(range->length(), start, stop, step));
    if (slice.count == 0) return Value::OfObject(std::make_shared<Range>(0, 0, 1));
    const int64_t first = range->At(slice.start);
    const int64_t last = range->At(slice.start + (slice.count - 1) * slice.step);
    const int64_t stride = slice.count == 1 ? 1 : range->step() * slice.step;  // lies inside the range: no overflow
    return Value::OfObject(std::make_shared<Range>(first, stride > 0 ? last + 1 : last - 1, stride));
  }
  if (owner.IsDict()) return Raise(ErrorType::kTypeError, "unhashable type: 'slice'");
  return Raise(ErrorType::kTypeError, "'{}' object is not subscriptable", owner.TypeName());
}

}  // namespace conclave::jinja
