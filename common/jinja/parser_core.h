// SPDX-License-Identifier: Apache-2.0
// The two halves of the parser share the token stream and the nesting count.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/ast.h"
#include "common/jinja/error.h"
#include "common/jinja/lexer.h"

namespace conclave::jinja {

class TokenStream {
 public:
  TokenStream(TokenList list, int depth_max) : list_(std::move(list)), depth_max_(depth_max) {}

  const Token& Current() const { return list_.tokens[at_]; }
  const Token& Ahead() const { return list_.tokens[std::min(at_ + 1, list_.tokens.size() - 1)]; }
  void Skip() { at_ = std::min(at_ + 1, list_.tokens.size() - 1); }

  bool Is(TokenKind kind) const { return Current().kind == kind; }
  bool IsOperator(std::string_view text) const { return Is(TokenKind::kOperator) && Current().text == text; }
  bool IsName(std::string_view text) const { return Is(TokenKind::kName) && Current().text == text; }
  bool TakeOperator(std::string_view text) { return IsOperator(text) && (Skip(), true); }
  bool TakeName(std::string_view text) { return IsName(text) && (Skip(), true); }

  absl::Status ExpectOperator(std::string_view text);
  absl::Status ExpectName(std::string_view text);
  absl::Status ExpectKind(TokenKind kind, std::string_view described);
  absl::StatusOr<Token> ExpectAnyName();

  // An error at `at`; where the source itself goes wrong earlier, that error instead.
  template <typename... Args>
  absl::Status Fail(Position at, fmt::format_string<Args...> format, Args&&... args) const {
    return FailMessage(at, ErrorType::kTemplateSyntaxError, fmt::format(format, std::forward<Args>(args)...));
  }
  absl::Status FailMessage(Position at, ErrorType type, std::string_view message) const;
  absl::Status FailDepth() const;

  // One level of nesting in the source, while it lives.
  class Level {
   public:
    explicit Level(TokenStream& stream) : stream_(stream) { ++stream_.depth_; }
    ~Level() { --stream_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    bool TooDeep() const { return stream_.depth_ > stream_.depth_max_; }

   private:
    TokenStream& stream_;
  };

 private:
  absl::Status FailExpected(std::string_view described) const;

  TokenList list_;
  size_t at_ = 0;
  int depth_ = 0;
  const int depth_max_;
};

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& stream) : stream_(stream) {}

  enum class Conditional { kAllowed, kForbidden };  // "a if b else c" at the top of the expression
  absl::StatusOr<ExpressionPtr> Expression(Conditional conditional = Conditional::kAllowed);
  // One expression, or several with commas as a tuple.
  absl::StatusOr<ExpressionPtr> TupleOrExpression(Conditional conditional, bool parenthesised = false);
  // A name, ns.attribute where `allow_namespace`, or a tuple of such.
  absl::StatusOr<ExpressionPtr> AssignmentTarget(bool allow_namespace);
  absl::StatusOr<std::unique_ptr<NameExpression>> NameTarget(NameExpression::Use use);
  // "|f(x)|g" behind `input` (null: a filter block's text); `first_bare`: the first filter has no bar.
  absl::StatusOr<ExpressionPtr> Filters(ExpressionPtr input, bool first_bare);

 private:
  absl::StatusOr<ExpressionPtr> ConditionalChain();
  absl::StatusOr<ExpressionPtr> Or();
  absl::StatusOr<ExpressionPtr> And();
  absl::StatusOr<ExpressionPtr> Not();
  absl::StatusOr<ExpressionPtr> Comparisons();
  absl::StatusOr<ExpressionPtr> Sums();
  absl::StatusOr<ExpressionPtr> Concatenations();
  absl::StatusOr<ExpressionPtr> Products();
  absl::StatusOr<ExpressionPtr> Powers();
  absl::StatusOr<ExpressionPtr> Unary(bool with_filters);
  absl::StatusOr<ExpressionPtr> Primary(bool target, bool allow_namespace);
  absl::StatusOr<ExpressionPtr> NamePrimary(bool target, bool allow_namespace);
  absl::StatusOr<ExpressionPtr> ListLiteral();
  absl::StatusOr<ExpressionPtr> DictLiteral();
  absl::StatusOr<ExpressionPtr> Postfix(ExpressionPtr base);
  absl::StatusOr<ExpressionPtr> FilterExpressions(ExpressionPtr base);
  absl::StatusOr<ExpressionPtr> Subscript(ExpressionPtr base);
  absl::Status Subscripted(PostfixStep* step);
  absl::StatusOr<ExpressionPtr> Call(ExpressionPtr base);
  absl::StatusOr<ExpressionPtr> Test(ExpressionPtr base);
  absl::StatusOr<CallArguments> Arguments();
  absl::StatusOr<std::string> DottedName();
  bool AtTupleEnd() const;

  TokenStream& stream_;
};

}  // namespace conclave::jinja
