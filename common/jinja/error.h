// SPDX-License-Identifier: Apache-2.0
// Errors of templates, named and worded as Python's jinja2 words them, so that an error of a chat template reads the
// same here as where the template was written: "UndefinedError: 'tools' is undefined".
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"

namespace conclave::jinja {

enum class ErrorType {
  kAttributeError,
  kFilterArgumentError,
  kIndexError,
  kKeyError,
  kOverflowError,
  kRuntimeError,
  kSecurityError,
  kTemplateAssertionError,
  kTemplateError,  // raise_exception()
  kTemplateRuntimeError,
  kTemplateSyntaxError,
  kTypeError,
  kUndefinedError,
  kValueError,
  kZeroDivisionError,
};

std::string_view ErrorName(ErrorType type);

// INVALID_ARGUMENT "<ErrorName>: <message>".
absl::Status RaiseMessage(ErrorType type, std::string_view message);

template <typename... Args>
absl::Status Raise(ErrorType type, fmt::format_string<Args...> format, Args&&... args) {
  return RaiseMessage(type, fmt::format(format, std::forward<Args>(args)...));
}

// The same error, with " (line L, column C)" behind its message.
absl::Status AtPosition(const absl::Status& status, size_t line, size_t column);

}  // namespace conclave::jinja
