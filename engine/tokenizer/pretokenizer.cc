// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/pretokenizer.h"

#include <algorithm>

#include "common/status.h"
#include "engine/tokenizer/pcre.h"
#include "engine/tokenizer/utf8.h"

namespace conclave::engine {
namespace {

// A stretch that matched or did not; pieces are made of whole ones.
struct Segment {
  size_t end;
  bool match;
  bool after_empty;  // an empty match stands before it
};

// Cuts `piece` into matches and the stretches between. An empty match separates what stands beside it.
absl::Status FindSegments(const Pcre& pattern, std::string_view piece, Pcre::Scratch* scratch,
                          std::vector<Segment>* segments) {
  segments->clear();
  size_t from = 0, done = 0;
  bool after_empty = false;
  while (from < piece.size()) {
    MatchRange match = {};
    ASSIGN_OR_RETURN(const bool found, pattern.Find(piece, from, scratch, &match));
    if (!found) break;
    if (match.begin > done) segments->push_back({match.begin, false, after_empty});
    if (match.end > match.begin) segments->push_back({match.end, true, false});
    // Where a match ends an empty one is none.
    after_empty = match.end == match.begin && (segments->empty() || match.begin > done);
    done = match.end;
    from = match.end > match.begin
               ? match.end
               : match.end + (match.end < piece.size() ? DecodeUtf8(piece.substr(match.end)).bytes : 1);
  }
  if (done < piece.size()) segments->push_back({piece.size(), false, after_empty});
  return absl::OkStatus();
}

// Whether the cut between two neighbouring segments goes away.
bool Joined(SplitBehavior behavior, const Segment& left, const Segment& right) {
  if (right.after_empty) return false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return false;
    case SplitBehavior::kMergedWithPrevious:  // of neighbouring matches the first ends a piece, the others stand alone
      return right.match && !left.match;
    case SplitBehavior::kMergedWithNext:
      return left.match && !right.match;
    case SplitBehavior::kContiguous:
      return left.match == right.match;
  }
  return false;
}

}  // namespace

struct Pretokenizer::Rule {
  std::unique_ptr<Pcre> pattern;
  SplitBehavior behavior;
  bool invert;
};

Pretokenizer::Pretokenizer(std::vector<Rule> rules) : rules_(std::move(rules)) {}
Pretokenizer::~Pretokenizer() = default;

absl::StatusOr<const PretokenizerSpec*> FindPretokenizer(std::string_view name) {
  std::string known;
  for (const PretokenizerSpec& spec : PretokenizerSpecs()) {
    std::string_view names = spec.names;
    while (!names.empty()) {
      const size_t end = std::min(names.find(' '), names.size());
      if (names.substr(0, end) == name) return &spec;
      names.remove_prefix(std::min(end + 1, names.size()));
    }
    known += known.empty() ? "" : " ";
    known += spec.names;
  }
  return InvalidArgument("unknown pre-tokenizer \"{}\"; known are: {}", name, known);
}

absl::StatusOr<std::unique_ptr<Pretokenizer>> Pretokenizer::Create(std::span<const std::string_view> patterns) {
  std::vector<SplitRule> rules;
  for (const std::string_view pattern : patterns) rules.push_back({.pattern = std::string(pattern)});
  return Create(rules);
}

absl::StatusOr<std::unique_ptr<Pretokenizer>> Pretokenizer::Create(std::span<const SplitRule> rules) {
  std::vector<Rule> compiled;
  for (const SplitRule& rule : rules) {
    Rule c = {nullptr, rule.behavior, rule.invert};
    ASSIGN_OR_RETURN(c.pattern, Pcre::Compile(rule.pattern, rule.ruby ? Pcre::Lines::kMany : Pcre::Lines::kOne));
    compiled.push_back(std::move(c));
  }
  return std::unique_ptr<Pretokenizer>(new Pretokenizer(std::move(compiled)));
}

absl::Status Pretokenizer::Split(std::string_view text, std::vector<uint32_t>* ends) const {
  ends->clear();
  if (text.empty()) return absl::OkStatus();
  ends->push_back(static_cast<uint32_t>(text.size()));
  const auto scratch = Pcre::NewScratch();
  if (scratch == nullptr) return ResourceExhausted("out of memory for splitting text");
  std::vector<uint32_t> pieces;
  std::vector<Segment> segments;
  for (const Rule& rule : rules_) {
    pieces.clear();
    uint32_t begin = 0;
    for (const uint32_t end : *ends) {
      // Each piece is a subject of its own: what follows it is not seen by look-aheads.
      RETURN_IF_ERROR(FindSegments(*rule.pattern, text.substr(begin, end - begin), scratch.get(), &segments));
      for (Segment& segment : segments) segment.match = segment.match != rule.invert;
      for (size_t i = 0; i < segments.size(); ++i) {
        const bool last = i + 1 == segments.size();
        if (last || !Joined(rule.behavior, segments[i], segments[i + 1])) {
          pieces.push_back(begin + static_cast<uint32_t>(segments[i].end));
        }
      }
      begin = end;
    }
    ends->swap(pieces);
  }
  return absl::OkStatus();
}

}  // namespace conclave::engine
