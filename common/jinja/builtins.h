// SPDX-License-Identifier: Apache-2.0
// The names every template knows: filters, tests and global functions.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/runtime.h"

namespace conclave::jinja {

using FilterBody = absl::StatusOr<Value> (*)(Runtime&, const Value& self, Arguments&);
struct TestDefinition {
  std::string_view name;
  absl::StatusOr<bool> (*body)(Runtime&, const Value& self, Arguments&);
  bool takes_argument = false;
};

// Null when there is no such filter or test.
FilterBody FindFilter(std::string_view name);
const TestDefinition* FindTest(std::string_view name);
absl::StatusOr<bool> RunTest(Runtime& runtime, const TestDefinition& test, const Value& self, Arguments& arguments);

// range, namespace, dict, cycler, joiner, raise_exception, strftime_now; missing for any other name.
Value FindGlobal(std::string_view name);

// By a name known only at run time, as `map` and `select` do it.
absl::StatusOr<Value> CallFilter(Runtime& runtime, const Value& name, const Value& self, Arguments& arguments);
absl::StatusOr<bool> CallTest(Runtime& runtime, const Value& name, const Value& self, Arguments& arguments);

// What filters call `attribute`: "author.name" or "0.id" step by step, an int, or none for the item itself.
class AttributePath {
 public:
  explicit AttributePath(const Value& attribute);
  // `fallback` (missing: none) takes the place of every undefined step.
  absl::StatusOr<Value> Get(Runtime& runtime, const Value& item, const Value& fallback = Value()) const;

 private:
  std::vector<Value> steps_;
};

// The three files the filters live in; null for names of the others.
FilterBody FindTextFilter(std::string_view name);
FilterBody FindNumberFilter(std::string_view name);
FilterBody FindSequenceFilter(std::string_view name);
// The filter `wordwrap`, too long for its neighbours.
absl::StatusOr<Value> WordWrap(Runtime& runtime, const Value& self, Arguments& arguments);

}  // namespace conclave::jinja
