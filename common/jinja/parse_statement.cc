// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "common/jinja/parser.h"
#include "common/jinja/parser_core.h"
#include "common/jinja/printing.h"

namespace conclave::jinja {
namespace {

using EndTags = std::vector<std::string_view>;
using Conditional = ExpressionParser::Conditional;
using Use = NameExpression::Use;

class StatementParser {
 public:
  explicit StatementParser(TokenStream& stream) : stream_(stream), expressions_(stream) {}

  absl::StatusOr<Body> Template() { return Statements({}); }

 private:
  // Statements up to one of the end tags, whose name is left as the current token; all of the source without any.
  absl::StatusOr<Body> Statements(const EndTags& ends) {
    const TokenStream::Level level(stream_);
    if (level.TooDeep()) return stream_.FailDepth();
    if (!ends.empty()) end_tags_.push_back(ends);
    Body body;
    OutputStatement* output = nullptr;  // consecutive text and values share one statement
    while (true) {
      const Token& token = stream_.Current();
      if (token.kind == TokenKind::kEnd) break;
      if (token.kind == TokenKind::kError) return stream_.Fail(token.at, "unexpected input");
      if (token.kind == TokenKind::kData || token.kind == TokenKind::kVariableBegin) {
        if (output == nullptr) {
          body.push_back(std::make_unique<OutputStatement>(token.at));
          output = static_cast<OutputStatement*>(body.back().get());
        }
        RETURN_IF_ERROR(OutputItem(output));
        continue;
      }
      output = nullptr;
      stream_.Skip();
      if (stream_.Is(TokenKind::kName) && std::find(ends.begin(), ends.end(), stream_.Current().text) != ends.end()) {
        end_tags_.pop_back();
        return body;
      }
      ASSIGN_OR_RETURN(StatementPtr statement, Tag());
      body.push_back(std::move(statement));
      RETURN_IF_ERROR(stream_.ExpectKind(TokenKind::kBlockEnd, "end of statement block"));
    }
    if (!ends.empty()) return FailEnd("", stream_.Current().at);
    return body;
  }

  absl::Status OutputItem(OutputStatement* output) {
    const Token& token = stream_.Current();
    if (token.kind == TokenKind::kData) {
      output->items.push_back(std::make_unique<ConstantExpression>(token.at, Value::String(token.text)));
      stream_.Skip();
      return absl::OkStatus();
    }
    stream_.Skip();
    ASSIGN_OR_RETURN(ExpressionPtr value, expressions_.TupleOrExpression(Conditional::kAllowed));
    output->items.push_back(std::move(value));
    return stream_.ExpectKind(TokenKind::kVariableEnd, "end of print statement");
  }

  // The body of a tag: what follows its "%}", up to one of the end tags.
  absl::StatusOr<Body> BodyUntil(const EndTags& ends) {
    stream_.TakeOperator(":");
    RETURN_IF_ERROR(stream_.ExpectKind(TokenKind::kBlockEnd, "end of statement block"));
    return Statements(ends);
  }

  // As BodyUntil, with a single end tag, which is consumed.
  absl::StatusOr<Body> WholeBody(std::string_view end) {
    ASSIGN_OR_RETURN(Body body, BodyUntil({end}));
    stream_.Skip();
    return body;
  }

  absl::StatusOr<StatementPtr> Tag() {
    const Token token = stream_.Current();
    if (token.kind != TokenKind::kName) return stream_.Fail(token.at, "tag name expected");
    using Rule = absl::StatusOr<StatementPtr> (StatementParser::*)(Position);
    static constexpr std::pair<std::string_view, Rule> kRules[] = {
        {"for", &StatementParser::For},          {"if", &StatementParser::If},
        {"block", &StatementParser::Block},      {"extends", &StatementParser::Load},
        {"print", &StatementParser::Print},      {"macro", &StatementParser::Macro},
        {"include", &StatementParser::Load},     {"from", &StatementParser::Load},
        {"import", &StatementParser::Load},      {"set", &StatementParser::Set},
        {"with", &StatementParser::With},        {"autoescape", &StatementParser::Scoped},
        {"call", &StatementParser::CallBlock},   {"filter", &StatementParser::FilterBlock},
        {"break", &StatementParser::Jump},       {"continue", &StatementParser::Jump},
        {"generation", &StatementParser::Scoped}};
    for (const auto& [name, rule] : kRules) {
      if (name != token.text) continue;
      tags_.push_back(token.text);
      stream_.Skip();
      auto statement = (this->*rule)(token.at);
      if (statement.ok()) tags_.pop_back();
      return statement;
    }
    return FailEnd(token.text, token.at);
  }

  // An unknown tag, or (with an empty name) the end of the source inside a block.
  absl::Status FailEnd(std::string_view name, Position at) const {
    std::string message =
        name.empty() ? "Unexpected end of template." : fmt::format("Encountered unknown tag {}.", QuotedRepr(name));
    if (!end_tags_.empty()) {
      std::string looking;
      bool expected = false;
      for (const std::string_view tag : end_tags_.back()) {
        looking += (looking.empty() ? "" : " or ") + QuotedRepr(tag);
      }
      for (const EndTags& tags : end_tags_) expected |= std::find(tags.begin(), tags.end(), name) != tags.end();
      message += expected ? fmt::format(
                                " You probably made a nesting mistake. Jinja is expecting this tag, but "
                                "currently looking for {}.",
                                looking)
                          : fmt::format(" Jinja was looking for the following tags: {}.", looking);
    }
    if (!tags_.empty()) {
      message += fmt::format(" The innermost block that needs to be closed is {}.", QuotedRepr(tags_.back()));
    }
    return stream_.FailMessage(at, ErrorType::kTemplateSyntaxError, message);
  }

  absl::StatusOr<StatementPtr> For(Position at) {
    auto node = std::make_unique<ForStatement>(at);
    ASSIGN_OR_RETURN(node->target, expressions_.AssignmentTarget(false));
    RETURN_IF_ERROR(stream_.ExpectName("in"));
    ASSIGN_OR_RETURN(node->iterable, expressions_.TupleOrExpression(Conditional::kForbidden));
    if (stream_.TakeName("if")) {
      ASSIGN_OR_RETURN(node->test, expressions_.Expression());
    }
    node->recursive = stream_.TakeName("recursive");
    ++loops_;
    ASSIGN_OR_RETURN(node->body, BodyUntil({"endfor", "else"}));
    --loops_;
    const bool otherwise = stream_.IsName("else");
    stream_.Skip();
    if (otherwise) {
      ASSIGN_OR_RETURN(node->otherwise, WholeBody("endfor"));
    }
    return node;
  }

  absl::StatusOr<StatementPtr> If(Position at) {
    auto node = std::make_unique<IfStatement>(at);
    while (true) {
      IfStatement::Branch branch;
      ASSIGN_OR_RETURN(branch.test, expressions_.TupleOrExpression(Conditional::kForbidden));
      ASSIGN_OR_RETURN(branch.body, BodyUntil({"elif", "else", "endif"}));
      node->branches.push_back(std::move(branch));
      const std::string end = stream_.Current().text;
      stream_.Skip();
      if (end == "elif") continue;
      if (end == "else") {
        ASSIGN_OR_RETURN(node->otherwise, WholeBody("endif"));
      }
      return node;
    }
  }

  absl::StatusOr<StatementPtr> Set(Position at) {
    ASSIGN_OR_RETURN(ExpressionPtr target, expressions_.AssignmentTarget(true));
    if (stream_.TakeOperator("=")) {
      auto node = std::make_unique<SetStatement>(at);
      node->target = std::move(target);
      ASSIGN_OR_RETURN(node->value, expressions_.TupleOrExpression(Conditional::kAllowed));
      return node;
    }
    auto node = std::make_unique<SetBlockStatement>(at);
    node->target = std::move(target);
    ASSIGN_OR_RETURN(node->filter, expressions_.Filters(nullptr, false));
    ASSIGN_OR_RETURN(node->body, WholeBody("endset"));
    return node;
  }

  absl::StatusOr<StatementPtr> With(Position at) {
    auto node = std::make_unique<WithStatement>(at);
    while (!stream_.Is(TokenKind::kBlockEnd)) {
      if (!node->assignments.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
      ASSIGN_OR_RETURN(ExpressionPtr target, expressions_.AssignmentTarget(false));
      MarkParameters(target.get());
      RETURN_IF_ERROR(stream_.ExpectOperator("="));
      ASSIGN_OR_RETURN(ExpressionPtr value, expressions_.Expression());
      node->assignments.emplace_back(std::move(target), std::move(value));
    }
    ASSIGN_OR_RETURN(node->body, WholeBody("endwith"));
    return node;
  }

  static void MarkParameters(Node* target) {
    if (target->kind == ExpressionKind::kName) static_cast<NameExpression*>(target)->use = Use::kParameter;
    if (target->kind == ExpressionKind::kTuple) {
      for (const ExpressionPtr& item : static_cast<SequenceExpression*>(target)->items) MarkParameters(item.get());
    }
  }

  // {% generation %} marks what an assistant wrote, for training; {% autoescape %} changes nothing for plain text.
  absl::StatusOr<StatementPtr> Scoped(Position at) {
    auto node = std::make_unique<ScopeStatement>(at);
    const bool generation = tags_.back() == "generation";
    if (!generation) {
      ASSIGN_OR_RETURN(node->option, expressions_.Expression());
    }
    ASSIGN_OR_RETURN(node->body, WholeBody(generation ? "endgeneration" : "endautoescape"));
    return node;
  }

  absl::Status Signature(MacroDefinition* macro) {
    RETURN_IF_ERROR(stream_.ExpectOperator("("));
    while (!stream_.IsOperator(")")) {
      if (!macro->parameters.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
      ASSIGN_OR_RETURN(auto parameter, expressions_.NameTarget(Use::kParameter));
      if (stream_.TakeOperator("=")) {
        ASSIGN_OR_RETURN(ExpressionPtr fallback, expressions_.Expression());
        macro->defaults.push_back(std::move(fallback));
      } else if (!macro->defaults.empty()) {
        return stream_.Fail(stream_.Current().at, "non-default argument follows default argument");
      }
      macro->parameters.push_back(std::move(parameter));
    }
    stream_.Skip();
    return absl::OkStatus();
  }

  absl::StatusOr<StatementPtr> Macro(Position at) {
    auto node = std::make_unique<MacroStatement>(at);
    ASSIGN_OR_RETURN(node->target, expressions_.NameTarget(Use::kStore));
    node->macro.name = Value::String(node->target->name);
    RETURN_IF_ERROR(Signature(&node->macro));
    ASSIGN_OR_RETURN(node->macro.body, FunctionBody("endmacro"));
    return node;
  }

  absl::StatusOr<StatementPtr> CallBlock(Position at) {
    auto node = std::make_unique<CallStatement>(at);
    if (stream_.IsOperator("(")) RETURN_IF_ERROR(Signature(&node->caller));
    ASSIGN_OR_RETURN(node->call, expressions_.Expression());
    const bool is_call = node->call->kind == ExpressionKind::kPostfix &&
                         static_cast<PostfixExpression&>(*node->call).steps.back().kind == PostfixStep::Kind::kCall;
    if (!is_call) return stream_.Fail(at, "expected call");
    ASSIGN_OR_RETURN(node->caller.body, FunctionBody("endcall"));
    return node;
  }

  // A body from inside which no loop outside can be left.
  absl::StatusOr<Body> FunctionBody(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    ASSIGN_OR_RETURN(Body body, WholeBody(end));
    loops_ = loops;
    return body;
  }

  absl::StatusOr<StatementPtr> FilterBlock(Position at) {
    auto node = std::make_unique<FilterStatement>(at);
    ASSIGN_OR_RETURN(node->filter, expressions_.Filters(nullptr, true));
    ASSIGN_OR_RETURN(node->body, WholeBody("endfilter"));
    return node;
  }

  absl::StatusOr<StatementPtr> Block(Position at) {
    auto node = std::make_unique<BlockStatement>(at);
    ASSIGN_OR_RETURN(Token name, stream_.ExpectAnyName());
    node->name = std::move(name.text);
    if (std::find(blocks_.begin(), blocks_.end(), node->name) != blocks_.end()) {
      return stream_.FailMessage(at, ErrorType::kTemplateAssertionError,
                                 fmt::format("block '{}' defined twice", node->name));
    }
    blocks_.push_back(node->name);
    stream_.TakeName("scoped");
    stream_.TakeName("required");
    ASSIGN_OR_RETURN(node->body, FunctionBody("endblock"));
    stream_.TakeName(node->name);
    return node;
  }

  absl::StatusOr<StatementPtr> Print(Position at) {
    auto node = std::make_unique<OutputStatement>(at);
    while (!stream_.Is(TokenKind::kBlockEnd)) {
      if (!node->items.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
      ASSIGN_OR_RETURN(ExpressionPtr item, expressions_.Expression());
      node->items.push_back(std::move(item));
    }
    return node;
  }

  absl::StatusOr<StatementPtr> Jump(Position at) {
    const std::string& tag = tags_.back();
    if (loops_ == 0) return stream_.Fail(at, "'{}' outside loop", tag);
    return std::make_unique<JumpStatement>(tag == "break" ? StatementKind::kBreak : StatementKind::kContinue, at);
  }

  // include, import, from, extends: parsed only as far as to skip them.
  absl::StatusOr<StatementPtr> Load(Position at) {
    ASSIGN_OR_RETURN(const ExpressionPtr ignored, expressions_.Expression());
    while (stream_.Is(TokenKind::kName) || stream_.IsOperator(",")) stream_.Skip();
    return std::make_unique<UnsupportedStatement>(at);
  }

  TokenStream& stream_;
  ExpressionParser expressions_;
  std::vector<std::string> tags_;
  std::vector<EndTags> end_tags_;
  std::vector<std::string> blocks_;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<Tree> ParseTemplate(std::string_view source, const WhitespaceRules& rules, int depth_max) {
  TokenStream stream(Tokenize(source, LexerMode::kTemplate, rules), depth_max);
  Tree tree;
  ASSIGN_OR_RETURN(tree.body, StatementParser(stream).Template());
  return tree;
}

}  // namespace conclave::jinja
