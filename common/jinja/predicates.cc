// SPDX-License-Identifier: Apache-2.0
// The tests of `is`, and the tables that find filters and tests by name.
#include "common/jinja/builtins.h"
#include "common/jinja/methods.h"
#include "common/jinja/operators.h"
#include "common/jinja/printing.h"

namespace conclave::jinja {
namespace {

absl::StatusOr<Value> One(std::string_view function, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({function, {"other"}, 1}, arguments));
  return bound[0];
}

absl::StatusOr<bool> IsModulo(Runtime& runtime, const Value& self, int64_t number, int64_t expected) {
  ASSIGN_OR_RETURN(const Value rest, Apply(runtime, BinaryOperator::kModulo, self, Value::Int(number)));
  return Compare(runtime, Comparison::kEqual, rest, Value::Int(expected));
}

absl::StatusOr<bool> Odd(Runtime& runtime, const Value& self, Arguments&) { return IsModulo(runtime, self, 2, 1); }
absl::StatusOr<bool> Even(Runtime& runtime, const Value& self, Arguments&) { return IsModulo(runtime, self, 2, 0); }

absl::StatusOr<bool> DivisibleBy(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(auto bound, Bind({"test_divisibleby", {"num"}, 1}, arguments));
  ASSIGN_OR_RETURN(const Value rest, Apply(runtime, BinaryOperator::kModulo, self, bound[0]));
  return Compare(runtime, Comparison::kEqual, rest, Value::Int(0));
}

absl::StatusOr<bool> Defined(Runtime&, const Value& self, Arguments&) { return !self.IsUndefined(); }
absl::StatusOr<bool> UndefinedTest(Runtime&, const Value& self, Arguments&) { return self.IsUndefined(); }
absl::StatusOr<bool> NoneTest(Runtime&, const Value& self, Arguments&) { return self.IsNone(); }
absl::StatusOr<bool> Boolean(Runtime&, const Value& self, Arguments&) { return self.IsBool(); }
absl::StatusOr<bool> False(Runtime&, const Value& self, Arguments&) { return self.IsBool() && !self.AsBool(); }
absl::StatusOr<bool> True(Runtime&, const Value& self, Arguments&) { return self.IsBool() && self.AsBool(); }
absl::StatusOr<bool> Integer(Runtime&, const Value& self, Arguments&) { return self.IsInt(); }
absl::StatusOr<bool> FloatTest(Runtime&, const Value& self, Arguments&) { return self.IsFloat(); }
absl::StatusOr<bool> StringTest(Runtime&, const Value& self, Arguments&) { return self.IsString(); }
absl::StatusOr<bool> Mapping(Runtime&, const Value& self, Arguments&) { return self.IsDict(); }
absl::StatusOr<bool> Number(Runtime&, const Value& self, Arguments&) { return self.IsNumber(); }
absl::StatusOr<bool> Iterable(Runtime&, const Value& self, Arguments&) {
  return IsIterable(self) || self.TypeName() == "LoopContext";
}
absl::StatusOr<bool> Escaped(Runtime&, const Value& self, Arguments&) {
  return self.IsString() && self.AsText().markup;
}

absl::StatusOr<bool> Callable(Runtime&, const Value& self, Arguments&) {
  // jinja2's Undefined has a __call__ (which fails).
  return self.IsUndefined() || (self.IsObject() && self.AsObject().IsCallable());
}

absl::StatusOr<bool> SequenceTest(Runtime&, const Value& self, Arguments&) {
  // len() and __getitem__: what can be iterated, less what cannot be indexed. Undefined passes.
  return self.IsUndefined() || self.IsString() || self.IsList() || self.IsTuple() || self.IsDict() ||
         self.AsObjectOf<Range>() != nullptr;
}

absl::StatusOr<bool> SameAs(Runtime&, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value other, One("test_sameas", arguments));
  return self.IsSame(other);
}

template <bool kUpper>
absl::StatusOr<bool> CaseTest(Runtime& runtime, const Value& self, Arguments&) {
  ASSIGN_OR_RETURN(const Value text, StrValue(runtime, self));
  Arguments none;
  ASSIGN_OR_RETURN(const Value result,
                   CallMethod(runtime, FindStringMethod(kUpper ? "isupper" : "islower"), text, none));
  return result.AsBool();
}

absl::StatusOr<bool> InTest(Runtime& runtime, const Value& self, Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value container, One("test_in", arguments));
  return Contains(runtime, container, self);
}

template <Comparison kOp>
absl::StatusOr<bool> CompareTest(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.named.empty()) {
    return Raise(ErrorType::kTypeError, "a comparison expected 2 arguments, got {}",
                 arguments.positional.size() + arguments.named.size() + 1);
  }
  return Compare(runtime, kOp, self, arguments.positional[0]);
}

absl::StatusOr<bool> FilterTest(Runtime&, const Value& self, Arguments&) {
  return self.IsString() && FindFilter(self.AsString()) != nullptr;
}

absl::StatusOr<bool> TestTest(Runtime&, const Value& self, Arguments&) {
  return self.IsString() && FindTest(self.AsString()) != nullptr;
}

absl::Status NoSuch(std::string_view what, const Value& name) {
  if (name.IsString()) {
    return Raise(ErrorType::kTemplateRuntimeError, "No {} named {}.", what, QuotedRepr(name.AsString()));
  }
  Runtime runtime(Limits{}, 0);
  const auto repr = Repr(runtime, name);
  const std::string shown = repr.ok() ? repr->bytes : "?";
  if (!name.IsUndefined()) return Raise(ErrorType::kTemplateRuntimeError, "No {} named {}.", what, shown);
  const absl::Status undefined = UndefinedError(name);
  std::string_view why = Message(undefined);
  why.remove_prefix(std::min(why.size(), why.find(": ") + 2));
  return Raise(ErrorType::kTemplateRuntimeError, "No {} named {}. ({}; did you forget to quote the callable name?)",
               what, shown, why);
}

}  // namespace

FilterBody FindFilter(std::string_view name) {
  if (const FilterBody body = FindSequenceFilter(name)) return body;
  if (const FilterBody body = FindTextFilter(name)) return body;
  return FindNumberFilter(name);
}

const TestDefinition* FindTest(std::string_view name) {
  using enum Comparison;
  static constexpr TestDefinition kTable[] = {{"!=", CompareTest<kNotEqual>, true},
                                              {"<", CompareTest<kLess>, true},
                                              {"<=", CompareTest<kLessEqual>, true},
                                              {"==", CompareTest<kEqual>, true},
                                              {">", CompareTest<kGreater>, true},
                                              {">=", CompareTest<kGreaterEqual>, true},
                                              {"boolean", Boolean},
                                              {"callable", Callable},
                                              {"defined", Defined},
                                              {"divisibleby", DivisibleBy, true},
                                              {"eq", CompareTest<kEqual>, true},
                                              {"equalto", CompareTest<kEqual>, true},
                                              {"escaped", Escaped},
                                              {"even", Even},
                                              {"false", False},
                                              {"filter", FilterTest},
                                              {"float", FloatTest},
                                              {"ge", CompareTest<kGreaterEqual>, true},
                                              {"greaterthan", CompareTest<kGreater>, true},
                                              {"gt", CompareTest<kGreater>, true},
                                              {"in", InTest, true},
                                              {"integer", Integer},
                                              {"iterable", Iterable},
                                              {"le", CompareTest<kLessEqual>, true},
                                              {"lessthan", CompareTest<kLess>, true},
                                              {"lower", CaseTest<false>},
                                              {"lt", CompareTest<kLess>, true},
                                              {"mapping", Mapping},
                                              {"ne", CompareTest<kNotEqual>, true},
                                              {"none", NoneTest},
                                              {"number", Number},
                                              {"odd", Odd},
                                              {"sameas", SameAs, true},
                                              {"sequence", SequenceTest},
                                              {"string", StringTest},
                                              {"test", TestTest},
                                              {"true", True},
                                              {"undefined", UndefinedTest},
                                              {"upper", CaseTest<true>}};
  for (const TestDefinition& test : kTable) {
    if (test.name == name) return &test;
  }
  return nullptr;
}

absl::StatusOr<bool> RunTest(Runtime& runtime, const TestDefinition& test, const Value& self, Arguments& arguments) {
  const size_t given = arguments.positional.size() + arguments.named.size();
  if (!test.takes_argument && given > 0) {
    return Raise(ErrorType::kTypeError, "test_{}() takes 1 positional argument but {} were given", test.name,
                 given + 1);
  }
  return test.body(runtime, self, arguments);
}

absl::StatusOr<Value> CallFilter(Runtime& runtime, const Value& name, const Value& self, Arguments& arguments) {
  const FilterBody body = name.IsString() ? FindFilter(name.AsString()) : nullptr;
  if (body == nullptr) return NoSuch("filter", name);
  RETURN_IF_ERROR(runtime.budget().Step());
  return body(runtime, self, arguments);
}

absl::StatusOr<bool> CallTest(Runtime& runtime, const Value& name, const Value& self, Arguments& arguments) {
  const TestDefinition* test = name.IsString() ? FindTest(name.AsString()) : nullptr;
  if (test == nullptr) return NoSuch("test", name);
  RETURN_IF_ERROR(runtime.budget().Step());
  return RunTest(runtime, *test, self, arguments);
}

}  // namespace conclave::jinja
