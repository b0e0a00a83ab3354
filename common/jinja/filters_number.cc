// SPDX-License-Identifier: Apache-2.0
// Filters that take or make numbers.
#include <cmath>

#include "common/jinja/builtins.h"
#include "common/jinja/numbers.h"
#include "common/jinja/operators.h"

namespace conclave::jinja {
namespace {

constexpr double kInt64Bound = 9223372036854775808.0;  // 2^63

absl::Status IntegerTooLarge() {
  return InvalidArgument("TEMPLATE_LIMIT: an integer outside 64 bits; keep such numbers as text or floats");
}

absl::StatusOr<Value> Absolute(Runtime&, const Value& self, Arguments& arguments) {
  RETURN_IF_ERROR(Bind({"abs", {}}, arguments).status());
  if (self.IsFloat()) return Value::Float(std::abs(self.AsDouble()));
  if (self.IsIntegral()) return self.AsInt() < 0 ? Negate(self) : Value::Int(self.AsInt());
  return Raise(ErrorType::kTypeError, "bad operand type for abs(): '{}'", self.TypeName());
}

// int(double).
absl::StatusOr<Value> Truncated(double value) {
  if (std::isnan(value)) return Raise(ErrorType::kValueError, "cannot convert float NaN to integer");
  if (std::isinf(value)) return Raise(ErrorType::kOverflowError, "cannot convert float infinity to integer");
  if (std::abs(value) >= kInt64Bound) return IntegerTooLarge();
  return Value::Int(static_cast<int64_t>(value));
}

absl::StatusOr<Value> ToInt(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_int", {"default", "base"}}, arguments));
  ASSIGN_OR_RETURN(const int64_t base, IntegerArgument(bound[1], 10));
  const Value fallback = bound[0].IsMissing() ? Value::Int(0) : bound[0];
  if (self.IsUndefined()) return UndefinedError(self);
  if (self.IsIntegral()) return Value::Int(self.AsInt());
  if (self.IsFloat()) {
    if (std::isnan(self.AsDouble())) return fallback;
    return Truncated(self.AsDouble());
  }
  if (!self.IsString()) return fallback;
  RETURN_IF_ERROR(runtime.budget().Scan(self.AsString().size() * 8));
  if (base == 0 || (base >= 2 && base <= 36)) {
    bool overflow = false;
    const auto value = ParseInt(self.AsString(), static_cast<int>(base), &overflow);
    if (value.has_value() && overflow) return IntegerTooLarge();
    if (value.has_value()) return Value::Int(*value);
  }
  const auto number = ParseFloat(self.AsString());
  if (!number.has_value() || !std::isfinite(*number)) return fallback;
  return Truncated(*number);
}

absl::StatusOr<Value> ToFloat(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_float", {"default"}}, arguments));
  if (self.IsUndefined()) return UndefinedError(self);
  if (self.IsNumber()) return Value::Float(self.AsDouble());
  if (self.IsString()) {
    RETURN_IF_ERROR(runtime.budget().Scan(self.AsString().size() * 8));
    if (const auto number = ParseFloat(self.AsString())) return Value::Float(*number);
  }
  return bound[0].IsMissing() ? Value::Float(0.0) : bound[0];
}

absl::StatusOr<Value> Round(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_round", {"precision", "method"}}, arguments));
  ASSIGN_OR_RETURN(const int64_t precision, IntegerArgument(bound[0], 0));
  const std::string method = bound[1].IsString() ? bound[1].AsString() : "common";
  if (method != "common" && method != "ceil" && method != "floor") {
    return Raise(ErrorType::kFilterArgumentError, "method must be common, ceil or floor");
  }
  if (!self.IsNumber()) {
    return Raise(ErrorType::kTypeError, "type {} doesn't define __round__ method", self.TypeName());
  }
  const int digits = static_cast<int>(std::min<int64_t>(std::max<int64_t>(precision, -400), 400));
  if (method == "common") {
    if (self.IsFloat()) return Value::Float(RoundTo(self.AsDouble(), digits));
    if (digits >= 0) return Value::Int(self.AsInt());
    if (digits < -18) return Value::Int(0);
    // Half to even, in integers.
    int64_t unit = 1;
    for (int i = digits; i < 0; ++i) unit *= 10;
    const int64_t rest = FloorModulo(self.AsInt(), unit);
    int64_t down = 0, result = 0;
    if (__builtin_sub_overflow(self.AsInt(), rest, &down)) return IntegerTooLarge();
    const bool odd = FloorModulo(FloorDivide(down, unit), 2) != 0;
    const bool up = rest > unit - rest || (rest == unit - rest && odd);
    if (__builtin_add_overflow(down, up ? unit : 0, &result)) return IntegerTooLarge();
    return Value::Int(result);
  }
  // value * 10 ** precision, rounded to an integer, divided again: always a float.
  ASSIGN_OR_RETURN(const Value scale, Apply(runtime, BinaryOperator::kPower, Value::Int(10), Value::Int(digits)));
  ASSIGN_OR_RETURN(const Value scaled, Apply(runtime, BinaryOperator::kMultiply, self, scale));
  const double whole = method == "ceil" ? std::ceil(scaled.AsDouble()) : std::floor(scaled.AsDouble());
  ASSIGN_OR_RETURN(const Value integer, Truncated(whole));
  return Apply(runtime, BinaryOperator::kDivide, integer, scale);
}

absl::StatusOr<Value> FileSizeFormat(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_filesizeformat", {"binary"}}, arguments));
  Arguments none;
  ASSIGN_OR_RETURN(const Value number, ToFloat(runtime, self, none));
  const double bytes = number.AsDouble();
  const bool binary = bound[0].Truthy();
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return Value::String("1 Byte");
  if (bytes < base) return runtime.NewString(fmt::format("{} Bytes", static_cast<int64_t>(std::max(bytes, -1e18))));
  static constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base * base;
  size_t prefix = 0;
  while (bytes >= unit && prefix + 1 < kPrefixes.size()) unit *= base, ++prefix;
  const char letter = binary && prefix == 0 ? 'K' : kPrefixes[prefix];
  return runtime.NewString(fmt::format("{:.1f} {}{}", base * bytes / unit, letter, binary ? "iB" : "B"));
}

absl::StatusOr<Value> Sum(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"do_sum", {"attribute", "start"}, 0, 2}, arguments));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Items(runtime, self));
  Value total = bound[1].IsMissing() ? Value::Int(0) : bound[1];
  if (total.IsString()) return Raise(ErrorType::kTypeError, "sum() can't sum strings [use ''.join(seq) instead]");
  const AttributePath path(bound[0]);
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const Value term, path.Get(runtime, item));
    ASSIGN_OR_RETURN(total, Apply(runtime, BinaryOperator::kAdd, total, term));
  }
  return total;
}

}  // namespace

FilterBody FindNumberFilter(std::string_view name) {
  if (name == "abs") return Absolute;
  if (name == "filesizeformat") return FileSizeFormat;
  if (name == "float") return ToFloat;
  if (name == "int") return ToInt;
  if (name == "round") return Round;
  if (name == "sum") return Sum;
  return nullptr;
}

}  // namespace conclave::jinja
