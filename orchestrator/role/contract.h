// SPDX-License-Identifier: Apache-2.0
// What a member's words mean: the answer, verdict or plain text that its role promised.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/deliberation/v1/role.pb.h"
#include "orchestrator/experiment/grade/grader.h"

namespace conclave::orchestrator {

enum class ContractKind { kAnswer, kVerdict, kText, kRanking, kLabel, kItems };

// What was read from one text. Nothing set: the contract was not met, which is never an error.
struct Reading {
  std::optional<std::string> answer;  // normal form: equivalent answers are equal
  std::optional<bool> accept;
  std::optional<double> score;  // in [0, 1]
};

// The part of a text that others may see: what follows its reasoning. Trimmed of white space; a view of `text`.
std::string_view WithoutReasoning(std::string_view text);

// Reads verdicts. Phrases are compared without case, Markdown emphasis and differences of white space.
class VerdictReader {
 public:
  VerdictReader() = default;
  explicit VerdictReader(const deliberation::v1::VerdictContract& contract);
  // The last phrase decides; among phrases that begin together the longest.
  Reading Read(std::string_view text) const;

 private:
  struct Criterion {
    std::string after;
    double max = 1;
    double weight = 1;
  };
  Reading ReadRubric(std::string_view plain) const;

  std::vector<Criterion> criteria_;
  double accept_from_ = 0.5;
  std::vector<std::string> accept_, reject_;
  std::string score_after_;
  double score_max_ = 1;
};

// How sure a writer says it is: the number behind the last `after`, over `max`; nullopt when there is none, or one
// outside of [0, max].
std::optional<double> ReadConfidence(const deliberation::v1::AnswerContract& contract, std::string_view text);

// An order of `count` candidates, numbers from 1 behind the last `after` and on its line, as indices from 0, the best
// first, each once. Empty: there is none, or it names a candidate that was not shown.
std::vector<int32_t> ReadRanking(const deliberation::v1::RankingContract& contract, int32_t count,
                                 std::string_view text);

// The option that stands last in the text, as the contract writes it; of those that begin together the longest.
std::optional<std::string> ReadLabel(const deliberation::v1::LabelContract& contract, std::string_view text);

// One item of a plan.
struct PlanItem {
  std::string id;
  std::string text;
  std::vector<int32_t> needs;  // indices of earlier items
};
// Items of a plan, in order; none when the text breaks a rule of the contract.
std::vector<PlanItem> ReadItems(const deliberation::v1::ItemsContract& contract, std::string_view text);

// A verdict made of a probability: P(True) of at least one half accepts.
Reading ReadProbability(double p_true);

// The answer in a whole response, or in a short answer that came beside it; nullopt is the empty answer.
std::optional<std::string> ReadAnswerIn(const grade::Grader& grader, std::string_view text);
std::optional<std::string> ReadShortAnswer(const grade::Grader& grader, std::string_view answer);

}  // namespace conclave::orchestrator
