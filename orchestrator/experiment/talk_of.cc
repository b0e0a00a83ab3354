// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/talk_of.h"

#include <algorithm>
#include <map>

namespace conclave::experiment {
namespace {

using deliberation::v1::CallFinished;
using deliberation::v1::Event;

// Shorter words stand in a prompt by chance.
constexpr size_t kWordsMin = 2;

// An answer as a run has it.
struct Said {
  std::string place;  // node path
  std::string member;
  int32_t sample = 0;
  std::string text;
  std::string answer_class;  // "": none
  bool right = false;
};

// "review[2].verify" -> "review.verify".
std::string WithoutRounds(const std::string& path) {
  std::string out;
  bool inside = false;
  for (const char c : path) {
    if (c == '[') inside = true;
    if (!inside) out += c;
    if (c == ']') inside = false;
  }
  return out;
}

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

bool Shows(const CallFinished& call, std::string_view words) {
  return std::any_of(call.prompt().begin(), call.prompt().end(), [&](const auto& message) {
    return std::string_view(message.content()).find(words) != std::string_view::npos;
  });
}

// Whether what the judge's prompt shows was right; nullopt when it shows none, or of both kinds.
std::optional<bool> Judged(const CallFinished& call, const std::vector<Said>& said) {
  std::optional<bool> right;
  for (const Said& one : said) {
    const std::string_view words = Trimmed(one.text);
    if (words.size() < kWordsMin || !Shows(call, words)) continue;
    if (right && *right != one.right) return std::nullopt;
    right = one.right;
  }
  return right;
}

// The most frequent class at a place; "" for a tie or no answer.
std::string Majority(const std::vector<Said>& said, const std::string& place) {
  std::map<std::string, size_t> votes;
  for (const Said& one : said) {
    if (one.place == place && !one.answer_class.empty()) ++votes[one.answer_class];
  }
  std::string best;
  size_t most = 0;
  for (const auto& [answer, count] : votes) {
    if (count == most) best.clear();
    if (count > most) most = count, best = answer;
  }
  return best;
}

}  // namespace

Talk TalkOf(const RunRecord& record, const benchmark::Item& item, const grade::Grader& grader) {
  Talk talk;
  const grade::Reference reference{item.answer, item.choices};
  std::vector<Said> said;
  for (const Event& event : record.events) {
    if (!event.has_call_finished()) continue;
    const CallFinished& call = event.call_finished();
    if (call.has_score() && call.key().subject() >= 0 && call.shown().empty()) {
      talk.scores.push_back({WithoutRounds(event.node_path()), call.score(), Judged(call, said)});
      continue;
    }
    if (!call.has_answer() || call.key().subject() >= 0) continue;
    const grade::Grade grade = grader.GradeText(call.text(), reference);
    said.push_back({event.node_path(), call.key().member(), call.key().sample(), call.text(), grade.answer,
                    grade.outcome == grade::Outcome::kCorrect});
    // What the same writer said last, somewhere else.
    const auto before = std::find_if(said.rbegin() + 1, said.rend(), [&](const Said& one) {
      return one.member == said.back().member && one.sample == said.back().sample;
    });
    if (before == said.rend() || before->place == said.back().place) continue;
    stats::Revision revision{before->right, said.back().right, std::nullopt};
    const std::string majority = Majority(said, before->place);
    if (!majority.empty() && majority != before->answer_class) {
      revision.adopted_majority = said.back().answer_class == majority;
    }
    talk.revisions.push_back(revision);
  }
  return talk;
}

}  // namespace conclave::experiment
