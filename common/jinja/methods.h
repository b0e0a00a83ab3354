// SPDX-License-Identifier: Apache-2.0
// Methods of strings, lists, tuples, dicts and numbers that templates may call.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/jinja/runtime.h"

namespace conclave::jinja {

using MethodBody = absl::StatusOr<Value> (*)(Runtime&, const Value& self, Arguments&);

enum class MethodAccess { kNone, kAllowed, kUnsafe };
struct Method {
  MethodAccess access = MethodAccess::kNone;
  MethodBody body = nullptr;  // null: Python has the method, this engine does not
  std::string_view name;
  bool no_arguments = false;
};

// The method `name` of values of this type. kUnsafe: Python has it, jinja2's sandbox refuses it (list.append).
Method FindMethod(const Value& self, std::string_view name);
absl::StatusOr<Value> CallMethod(Runtime& runtime, const Method& method, const Value& self, Arguments& arguments);

// Tables, one per Python type; each returns kNone for unknown names.
Method FindStringMethod(std::string_view name);
Method FindListMethod(std::string_view name);
Method FindTupleMethod(std::string_view name);
Method FindDictMethod(std::string_view name);
Method FindNumberMethod(const Value& self, std::string_view name);

}  // namespace conclave::jinja
