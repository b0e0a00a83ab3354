// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/parser_core.h"
#include "common/jinja/printing.h"

namespace conclave::jinja {

absl::Status TokenStream::FailMessage(Position at, ErrorType type, std::string_view message) const {
  if (Is(TokenKind::kError)) return list_.error;
  return AtPosition(RaiseMessage(type, message), at.line, at.column);
}

absl::Status TokenStream::FailDepth() const {
  return AtPosition(InvalidArgument("TEMPLATE_LIMIT: source nested more than {} deep", depth_max_), Current().at.line,
                    Current().at.column);
}

absl::Status TokenStream::FailExpected(std::string_view described) const {
  if (Is(TokenKind::kEnd)) {
    return Fail(Current().at, "unexpected end of template, expected {}.", QuotedRepr(described));
  }
  return Fail(Current().at, "expected token {}, got {}", QuotedRepr(described), QuotedRepr(Describe(Current())));
}

absl::Status TokenStream::ExpectOperator(std::string_view text) {
  return TakeOperator(text) ? absl::OkStatus() : FailExpected(text);
}

absl::Status TokenStream::ExpectName(std::string_view text) {
  return TakeName(text) ? absl::OkStatus() : FailExpected(text);
}

absl::Status TokenStream::ExpectKind(TokenKind kind, std::string_view described) {
  if (!Is(kind)) return FailExpected(described);
  Skip();
  return absl::OkStatus();
}

absl::StatusOr<Token> TokenStream::ExpectAnyName() {
  if (!Is(TokenKind::kName)) return FailExpected("name");
  Token token = Current();
  Skip();
  return token;
}

}  // namespace conclave::jinja
