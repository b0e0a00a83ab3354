// SPDX-License-Identifier: Apache-2.0
// The functions every template may call.
#include <ctime>

#include "common/jinja/builtins.h"
#include "common/jinja/operators.h"
#include "common/jinja/printing.h"

namespace conclave::jinja {
namespace {

constexpr size_t kMaxTimeFormatBytes = 256;  // of strftime_now's format; its result may be 16 times as long

// dict(pairs or mapping, **named), also what namespace() takes.
absl::StatusOr<Dict> MakeDict(Runtime& runtime, std::string_view function, Arguments& arguments) {
  Dict dict;
  if (arguments.positional.size() > 1) {
    return Raise(ErrorType::kTypeError, "{} expected at most 1 argument, got {}", function,
                 arguments.positional.size());
  }
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.IsDict()) {
      dict = from.AsDict();
      RETURN_IF_ERROR(runtime.budget().Allocate(dict.entries().size() * sizeof(Dict::Entry)));
    } else {
      ASSIGN_OR_RETURN(const std::vector<Value> pairs, Items(runtime, from));
      for (size_t i = 0; i < pairs.size(); ++i) {
        if (!IsIterable(pairs[i])) {
          return Raise(ErrorType::kTypeError, "cannot convert dictionary update sequence element #{} to a sequence", i);
        }
        ASSIGN_OR_RETURN(std::vector<Value> pair, Items(runtime, pairs[i]));
        if (pair.size() != 2) {
          return Raise(ErrorType::kValueError, "dictionary update sequence element #{} has length {}; 2 is required", i,
                       pair.size());
        }
        if (!IsHashable(pair[0])) return Raise(ErrorType::kTypeError, "unhashable type: '{}'", pair[0].TypeName());
        dict.Set(std::move(pair[0]), std::move(pair[1]), runtime.budget());
      }
    }
  }
  for (auto& [name, value] : arguments.named) dict.Set(name, std::move(value), runtime.budget());
  RETURN_IF_ERROR(runtime.budget().Step());
  return dict;
}

absl::StatusOr<Value> MakeRange(Runtime&, Arguments& arguments) {
  if (!arguments.named.empty()) return Raise(ErrorType::kTypeError, "range() takes no keyword arguments");
  const size_t given = arguments.positional.size();
  if (given == 0) return Raise(ErrorType::kTypeError, "range expected at least 1 argument, got 0");
  if (given > 3) return Raise(ErrorType::kTypeError, "range expected at most 3 arguments, got {}", given);
  int64_t numbers[3] = {0, 0, 1};
  for (size_t i = 0; i < given; ++i) {
    const Value& argument = arguments.positional[i];
    if (argument.IsUndefined()) {
      return Raise(ErrorType::kTypeError, "'Undefined' object cannot be interpreted as an integer");
    }
    if (!argument.IsIntegral()) {
      return Raise(ErrorType::kTypeError, "'{}' object cannot be interpreted as an integer", argument.TypeName());
    }
    numbers[given == 1 ? 1 : i] = argument.AsInt();
  }
  if (numbers[2] == 0) return Raise(ErrorType::kValueError, "range() arg 3 must not be zero");
  auto range = std::make_shared<Range>(numbers[0], numbers[1], numbers[2]);
  if (range->length() > kMaxRangeItems) {
    return InvalidArgument(
        "TEMPLATE_LIMIT: OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).",
        kMaxRangeItems);
  }
  return Value::OfObject(std::move(range));
}

absl::StatusOr<Value> MakeNamespace(Runtime& runtime, Arguments& arguments) {
  ASSIGN_OR_RETURN(Dict dict, MakeDict(runtime, "dict", arguments));
  return runtime.NewNamespace(std::move(dict));
}

absl::StatusOr<Value> MakeDictValue(Runtime& runtime, Arguments& arguments) {
  ASSIGN_OR_RETURN(Dict dict, MakeDict(runtime, "dict", arguments));
  return runtime.NewDict(std::move(dict));
}

absl::StatusOr<Value> RaiseException(Runtime& runtime, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"raise_exception", {"message"}, 1, 0}, arguments));
  ASSIGN_OR_RETURN(const Text message, Str(runtime, bound[0]));
  return RaiseMessage(ErrorType::kTemplateError, message.bytes);
}

absl::StatusOr<Value> StrftimeNow(Runtime& runtime, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"strftime_now", {"format"}, 1, 0}, arguments));
  if (!bound[0].IsString()) {
    return Raise(ErrorType::kTypeError, "strftime() argument 1 must be str, not {}", bound[0].TypeName());
  }
  const Text& format = bound[0].AsText();
  if (format.bytes.size() > kMaxTimeFormatBytes) {
    return InvalidArgument("TEMPLATE_LIMIT: a time format of {} bytes, at most {} allowed", format.bytes.size(),
                           kMaxTimeFormatBytes);
  }
  if (format.bytes.empty()) return bound[0];
  const auto seconds = static_cast<std::time_t>(runtime.now_unix_seconds());
  std::tm time{};
  if (gmtime_r(&seconds, &time) == nullptr) {
    return Raise(ErrorType::kValueError, "year is out of range at {} seconds", runtime.now_unix_seconds());
  }
  // A format may yield nothing; the mark tells that from a result that did not fit.
  std::string out(16 * kMaxTimeFormatBytes, '\0');
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const size_t written = std::strftime(out.data(), out.size(), (format.bytes + "|").c_str(), &time);
#pragma GCC diagnostic pop
  if (written == 0) return Raise(ErrorType::kValueError, "Invalid format string");
  out.resize(written - 1);
  return runtime.NewText(DerivedText(std::move(out), format));
}

// cycler(a, b, ...): next() goes round.
class Cycler final : public Object, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {
    for (const Value& item : items_) depth_ = std::max(depth_, item.Depth() + 1);
  }
  std::string_view TypeName() const override { return "Cycler"; }
  std::string_view QualifiedTypeName() const override { return "jinja2.utils.Cycler"; }
  int depth() const override { return depth_; }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime&, std::string_view name) override {
    if (name == "current") return std::optional<Value>(items_[at_]);
    if (name != "next" && name != "reset") return std::optional<Value>();
    auto body = [self = shared_from_this(), next = name == "next"](Runtime&, Arguments&) -> absl::StatusOr<Value> {
      return next ? self->Next() : self->Reset();
    };
    return std::optional<Value>(Value::OfObject(std::make_shared<Function>(std::string(name), body, depth_ + 1)));
  }

 private:
  Value Next() {
    const size_t at = at_;
    at_ = (at_ + 1) % items_.size();
    return items_[at];
  }
  Value Reset() {
    at_ = 0;
    return Value::None();
  }

  std::vector<Value> items_;
  size_t at_ = 0;
  int depth_ = 1;
};

// joiner(separator): nothing when first called, the separator from then on.
class Joiner final : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string_view TypeName() const override { return "Joiner"; }
  std::string_view QualifiedTypeName() const override { return "jinja2.utils.Joiner"; }
  bool IsCallable() const override { return true; }
  int depth() const override { return separator_.Depth() + 1; }
  absl::StatusOr<Value> Call(Runtime&, Arguments&) override {
    return std::exchange(used_, true) ? separator_ : Value::String("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

absl::StatusOr<Value> MakeCycler(Runtime& runtime, Arguments& arguments) {
  if (arguments.positional.empty()) return Raise(ErrorType::kRuntimeError, "at least one item has to be provided");
  auto cycler = std::make_shared<Cycler>(std::vector<Value>(arguments.positional.begin(), arguments.positional.end()));
  RETURN_IF_ERROR(runtime.budget().CheckDepth(cycler->depth()));
  return Value::OfObject(std::move(cycler));
}

absl::StatusOr<Value> MakeJoiner(Runtime& runtime, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"joiner", {"sep"}, 0, 0}, arguments));
  auto joiner = std::make_shared<Joiner>(bound[0].IsMissing() ? Value::String(", ") : bound[0]);
  RETURN_IF_ERROR(runtime.budget().CheckDepth(joiner->depth()));
  return Value::OfObject(std::move(joiner));
}

Value Global(const char* name, Function::Body body) {
  return Value::OfObject(std::make_shared<Function>(name, std::move(body)));
}

}  // namespace

Value FindGlobal(std::string_view name) {
  static const auto* const kGlobals = new std::vector<std::pair<std::string_view, Value>>{
      {"range", Global("range", MakeRange)},
      {"namespace", Global("namespace", MakeNamespace)},
      {"dict", Global("dict", MakeDictValue)},
      {"cycler", Global("cycler", MakeCycler)},
      {"joiner", Global("joiner", MakeJoiner)},
      {"raise_exception", Global("raise_exception", RaiseException)},
      {"strftime_now", Global("strftime_now", StrftimeNow)}};
  for (const auto& [known, value] : *kGlobals) {
    if (known == name) return value;
  }
  return Value();
}

}  // namespace conclave::jinja
