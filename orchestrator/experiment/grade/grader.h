// SPDX-License-Identifier: Apache-2.0
// Graders: from what a model wrote to a verdict, with a trace of how it was reached.
// A grader is stateless and const: any number of threads may share one. It never throws, and its time is linear in the
// length of the text. None but `code` executes model text, and that one in a sandbox only. Rules and their order:
// specs/evaluation.md §5.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave::grade {

enum class Outcome {
  kCorrect,
  kWrong,
  kNoAnswer,     // nothing the grader can read as an answer; never correct, never wins a vote
  kTruncated,    // no answer, and generation had been cut at its length limit
  kGraderError,  // the grader's own failure, for example a gold answer it cannot read
  kFailed,       // the call itself failed; no grader returns this, it is for those who record outcomes
};

// "correct", "wrong", "no_answer", "truncated", "grader_error", "failed": the words of outcomes.jsonl.
std::string_view OutcomeName(Outcome outcome);
std::optional<Outcome> OutcomeFromName(std::string_view name);

// What is asked besides the response. Views are borrowed for the call.
struct Reference {
  std::string_view gold;                 // the right answer, as the benchmark writes it
  std::span<const std::string> choices;  // option texts in order A, B, ..; empty when the item has none
};

// Whether generation ended by itself, or was cut at its length limit (finish reason "length").
enum class Finish { kComplete, kCutAtLength };

// An answer found in a text.
struct Extraction {
  std::string answer;     // normal form: answers with equal ones are equivalent (`math` accepts more, see Matches)
  std::string raw;        // as written
  std::string_view rule;  // static: "gsm8k/answer_field", ..
  size_t begin = 0;       // bytes of `raw` in the text given: [begin, end)
  size_t end = 0;
  bool strict = false;  // in the one form the benchmark asks for, nothing to forgive
};

// A verdict and its trace. `outcome` is the primary verdict, which is the lenient one for every grader here; `strict`
// asks also for the benchmark's own form. Both are kept so that a change that only breaks formatting is visible.
struct Grade {
  Outcome outcome = Outcome::kNoAnswer;
  Outcome lenient = Outcome::kNoAnswer;
  Outcome strict = Outcome::kNoAnswer;
  std::string answer;          // normal form, "" when there is none
  std::string raw;             // as written
  std::string gold;            // normal form
  std::string_view rule = "";  // the rule that found the answer, or why there is none
  size_t begin = 0;
  size_t end = 0;
};

class Grader {
 public:
  virtual ~Grader() = default;

  virtual std::string_view name() const = 0;

  // The answer in a model's whole response, by the grader's chain of rules; nullopt is ⊥. `reference.gold` is not
  // looked at: what is extracted never depends on what is right.
  virtual std::optional<Extraction> Extract(std::string_view text, const Reference& reference) const = 0;

  // The same for a short answer that was already taken out of its response.
  virtual std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& reference) const = 0;

  // The normal form of the gold answer, or nullopt when the grader cannot read it.
  virtual std::optional<std::string> NormalGold(const Reference& reference) const = 0;

  // Extract and compare. A gold that cannot be read is kGraderError whatever the response says.
  Grade GradeText(std::string_view text, const Reference& reference, Finish finish = Finish::kComplete) const;
  Grade GradeAnswer(std::string_view answer, const Reference& reference) const;

  // The class of an answer under this grader's equivalence, for counting votes; nullopt is ⊥.
  std::optional<std::string> CanonicalKey(std::string_view answer, const Reference& reference = {}) const;
  // Both readable and of one class.
  bool Equivalent(std::string_view a, std::string_view b, const Reference& reference = {}) const;

 protected:
  struct Verdict {
    Outcome outcome;
    std::string_view rule;  // static
  };
  // The verdict on an extracted answer. The default is by Matches, with the rule that found the answer.
  virtual Verdict Decide(const Extraction& answer, const std::string& normal_gold, const Reference& reference) const;
  // Whether an extracted answer is right. The default compares normal forms.
  virtual bool Matches(const Extraction& answer, const std::string& normal_gold, const Reference& reference) const;
  // The same in the benchmark's own form; only asked of right answers with answer.strict. The default is Matches.
  virtual bool MatchesStrictly(const Extraction& answer, const std::string& normal_gold,
                               const Reference& reference) const;

 private:
  Grade Judge(std::optional<Extraction> found, const Reference& reference, Finish finish) const;
};

// The grader of that name. INVALID_ARGUMENT lists the known names; FAILED_PRECONDITION for "code" where sandboxes do
// not work (code/judge.h), for it runs nothing outside one.
absl::StatusOr<std::unique_ptr<const Grader>> MakeGrader(std::string_view name);

// The names MakeGrader accepts, in alphabetical order.
std::span<const std::string_view> GraderNames();

}  // namespace conclave::grade
