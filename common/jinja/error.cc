// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/error.h"

namespace conclave::jinja {

std::string_view ErrorName(ErrorType type) {
  switch (type) {
    case ErrorType::kAttributeError:
      return "AttributeError";
    case ErrorType::kFilterArgumentError:
      return "FilterArgumentError";
    case ErrorType::kIndexError:
      return "IndexError";
    case ErrorType::kKeyError:
      return "KeyError";
    case ErrorType::kOverflowError:
      return "OverflowError";
    case ErrorType::kRuntimeError:
      return "RuntimeError";
    case ErrorType::kSecurityError:
      return "SecurityError";
    case ErrorType::kTemplateAssertionError:
      return "TemplateAssertionError";
    case ErrorType::kTemplateError:
      return "TemplateError";
    case ErrorType::kTemplateRuntimeError:
      return "TemplateRuntimeError";
    case ErrorType::kTemplateSyntaxError:
      return "TemplateSyntaxError";
    case ErrorType::kTypeError:
      return "TypeError";
    case ErrorType::kUndefinedError:
      return "UndefinedError";
    case ErrorType::kValueError:
      return "ValueError";
    case ErrorType::kZeroDivisionError:
      return "ZeroDivisionError";
  }
  return "Error";
}

absl::Status RaiseMessage(ErrorType type, std::string_view message) {
  return InvalidArgument("{}: {}", ErrorName(type), message);
}

absl::Status AtPosition(const absl::Status& status, size_t line, size_t column) {
  return MakeStatus(status.code(), fmt::format("{} (line {}, column {})", Message(status), line, column));
}

}  // namespace conclave::jinja
