// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/constraint.h"

#include <algorithm>

#include "common/status.h"
#include "engine/grammar/ebnf.h"
#include "engine/grammar/json_schema.h"
#include "engine/grammar/regex.h"

namespace conclave::engine::grammar {
namespace {

absl::Status TooAmbiguous() {
  return ResourceExhausted(
      "CONSTRAINT_TOO_AMBIGUOUS: a text may stand in more than {} places of the constraint at once; write it with "
      "fewer ways to read one text",
      kStateItemsMax);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Automaton>> CompileAutomaton(Language language, std::string_view source) {
  if (source.size() > kSourceBytesMax) {
    return InvalidArgument("has {} bytes, at most {} are allowed", source.size(), kSourceBytesMax);
  }
  switch (language) {
    case Language::kJsonSchema:
      return CompileJsonSchema(source);
    case Language::kRegex:
      return CompileRegex(source);
    case Language::kGrammar:
      return CompileEbnf(source);
  }
  return InvalidArgument("is of no known language");
}

Constraint::Constraint(std::shared_ptr<const Automaton> automaton, std::shared_ptr<const VocabularyTrie> trie)
    : automaton_(std::move(automaton)),
      trie_(std::move(trie)),
      table_(std::make_unique<StateTable>(automaton_)),
      masks_(std::make_unique<TokenMasks>(trie_.get(), table_.get())) {}

absl::StatusOr<std::shared_ptr<Constraint>> Constraint::Create(Language language, std::string_view source,
                                                               std::shared_ptr<const VocabularyTrie> trie) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Automaton> automaton, CompileAutomaton(language, source));
  std::shared_ptr<Constraint> constraint(new Constraint(std::move(automaton), std::move(trie)));
  MutexLock lock(&constraint->mutex_);
  const StateId start = constraint->table_->start();
  if (start < 0 || constraint->masks_->Of(start) == nullptr) return InvalidArgument("{}", Message(TooAmbiguous()));
  return constraint;
}

void Constraint::MakeRoom() {
  if (!table_->crowded() && !masks_->crowded()) return;
  auto table = std::make_unique<StateTable>(automaton_);
  for (ConstraintMatcher* matcher : matchers_) matcher->state_ = table->CopyFrom(*table_, matcher->state_);
  table_ = std::move(table);
  masks_ = std::make_unique<TokenMasks>(trie_.get(), table_.get());
}

ConstraintMatcher::ConstraintMatcher(std::shared_ptr<Constraint> constraint) : constraint_(std::move(constraint)) {
  MutexLock lock(&constraint_->mutex_);
  state_ = constraint_->table_->start();
  constraint_->matchers_.push_back(this);
}

ConstraintMatcher::~ConstraintMatcher() {
  MutexLock lock(&constraint_->mutex_);
  std::erase(constraint_->matchers_, this);
}

absl::StatusOr<TokenMask> ConstraintMatcher::Allowed() {
  MutexLock lock(&constraint_->mutex_);
  if (state_ < 0) return TooAmbiguous();
  TokenMask mask = constraint_->masks_->Of(state_);
  if (mask == nullptr) {
    // The table is full, perhaps of what other texts needed.
    constraint_->table_->crowded() ? constraint_->MakeRoom() : void();
    if (state_ >= 0) mask = constraint_->masks_->Of(state_);
  }
  if (mask == nullptr) return TooAmbiguous();
  return mask;
}

absl::Status ConstraintMatcher::Append(TokenId token) {
  if (token < 0 || token >= constraint_->trie_->vocabulary()) {
    return FailedPrecondition("CONSTRAINT_VIOLATED: token {} stands for no text", token);
  }
  const std::string_view bytes = constraint_->trie_->bytes(token);
  if (bytes.empty()) return FailedPrecondition("CONSTRAINT_VIOLATED: token {} stands for no text", token);
  return AppendBytes(bytes);
}

absl::Status ConstraintMatcher::AppendBytes(std::string_view bytes) {
  MutexLock lock(&constraint_->mutex_);
  constraint_->MakeRoom();
  StateId state = state_;
  for (size_t i = 0; i < bytes.size() && state >= 0; ++i) {
    state = constraint_->table_->Step(state, static_cast<uint8_t>(bytes[i]));
  }
  if (state == kTooMany) return TooAmbiguous();
  if (state == kDead) return FailedPrecondition("CONSTRAINT_VIOLATED: the text may not go on with these bytes");
  state_ = state;
  return absl::OkStatus();
}

bool ConstraintMatcher::complete() const {
  MutexLock lock(&constraint_->mutex_);
  return state_ >= 0 && constraint_->table_->at(state_).accepts;
}

bool ConstraintMatcher::exhausted() const {
  MutexLock lock(&constraint_->mutex_);
  return state_ >= 0 && constraint_->table_->at(state_).accepts && constraint_->table_->items(state_).empty();
}

}  // namespace conclave::engine::grammar
