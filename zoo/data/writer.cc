// SPDX-License-Identifier: Apache-2.0
#include "zoo/data/writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/difficulty.h"

namespace conclave::zoo {
namespace {

using benchmark::Dice;

struct Share {
  Part part;
  int percent;
};
// Answering is most of the work; the rest is what the shipped graphs ask of their members.
constexpr std::array<Share, kParts> kShares = {{{Part::kSolver, 40},
                                                {Part::kConsolidate, 12},
                                                {Part::kProver, 8},
                                                {Part::kRepair, 8},
                                                {Part::kPlanner, 5},
                                                {Part::kCritic, 9},
                                                {Part::kReviser, 4},
                                                {Part::kVerifier, 10},
                                                {Part::kJudge, 4}}};
static_assert([] {
  int sum = 0;
  for (const Share& share : kShares) sum += share.percent;
  return sum == 100;
}());

// Questions of another split are drawn again; a tenth of all belongs to the smaller ones.
constexpr uint64_t kAttemptsMax = 1000;
// Drafts that one prompt shows.
constexpr int64_t kDraftsMax = 4;
// Of a hundred critiques that a member reads, so many are mistaken: it must not trust them blindly.
constexpr int64_t kFalseCritiques = 15;
constexpr int64_t kMembers = 20;

Part SomePart(Dice& dice, const std::vector<Part>& parts) {
  if (!parts.empty()) return parts[static_cast<size_t>(dice.Between(0, static_cast<int64_t>(parts.size()) - 1))];
  int64_t at = dice.Between(0, 99);
  for (const Share& share : kShares) {
    at -= share.percent;
    if (at < 0) return share.part;
  }
  CONCLAVE_CHECK(false);
  return Part::kSolver;
}

// How many drafts a prompt of this part is about.
int64_t DraftsOf(Part part, Dice& dice) {
  switch (part) {
    case Part::kSolver:
    case Part::kProver:
    case Part::kPlanner:
      return 0;
    case Part::kReviser:
    case Part::kVerifier:
    case Part::kJudge:
      return 1;
    case Part::kRepair:  // the critique is of one's own draft, or, in a council, of several
    case Part::kCritic:
      return dice.Between(0, 1) == 0 ? 1 : dice.Between(2, kDraftsMax);
    case Part::kConsolidate:
      return dice.Between(1, kDraftsMax);
  }
  CONCLAVE_CHECK(false);
  return 0;
}

std::string MemberName(int64_t number) { return fmt::format("m{:02}", number); }

// Drafts as a node shows them: of different members, by name or anonymous.
std::vector<Seen> SeenDrafts(const std::vector<Draft>& drafts, bool anonymous, Dice& dice) {
  std::vector<Seen> seen;
  const int64_t first = dice.Between(1, kMembers);
  for (size_t i = 0; i < drafts.size(); ++i) {
    // 7 has no factor in common with 20: the names differ.
    const int64_t member = (first + 7 * static_cast<int64_t>(i)) % kMembers + 1;
    seen.push_back({"draft", anonymous ? std::string() : MemberName(member), drafts[i].text});
  }
  return seen;
}

// One's own draft, then the critique. Where there are more drafts, one's own is any of them.
std::vector<Seen> SeenCritique(const Case& c, const std::vector<Draft>& drafts, Checks checks, Dice& dice) {
  const auto own = static_cast<size_t>(dice.Between(0, static_cast<int64_t>(drafts.size()) - 1));
  std::string critique = CritiqueText(c, drafts, checks);
  if (drafts.size() == 1 && dice.Between(0, 99) < kFalseCritiques) {
    critique = FalseCritique(c, drafts[own], checks, dice);
  }
  return {{"draft", MemberName(dice.Between(1, kMembers)), drafts[own].text},
          {"critique", MemberName(dice.Between(1, kMembers)), std::move(critique)}};
}

}  // namespace

absl::StatusOr<Writer> Writer::Create(WriterOptions options, Prompts prompts) {
  if (options.families.empty()) return InvalidArgument("no family is given; name some, or all");
  if (options.difficulty_low < 1 || options.difficulty_high > benchmark::kDifficultyMax ||
      options.difficulty_low > options.difficulty_high) {
    return InvalidArgument("difficulty is {}-{}; it goes from 1 to {}", options.difficulty_low, options.difficulty_high,
                           benchmark::kDifficultyMax);
  }
  return Writer(std::move(options), std::move(prompts));
}

absl::StatusOr<Document> Writer::Make(uint64_t index) const {
  Dice dice(options_.seed, Mix64(index));
  const auto families = static_cast<int64_t>(options_.families.size());
  ProblemId id;
  id.family = options_.families[static_cast<size_t>(dice.Between(0, families - 1))];
  id.difficulty = static_cast<int>(dice.Between(options_.difficulty_low, options_.difficulty_high));
  id.seed = options_.seed;
  const Part part = SomePart(dice, options_.parts);
  for (uint64_t attempt = 0; attempt < kAttemptsMax; ++attempt) {
    id.stream = index * kAttemptsMax + attempt;
    const Case c = MakeCase(id);
    if (benchmark::SplitOf(c.problem.question) != options_.split) continue;
    // Whole groups are good or bad together, as members are.
    const int64_t right_percent = dice.Between(1, 3) * 25;
    std::vector<Draft> drafts;
    for (int64_t i = DraftsOf(part, dice); i > 0; --i) {
      const bool alone = i == 1 && drafts.empty();
      drafts.push_back(MakeDraft(c, dice.Between(0, 99) < (alone ? 50 : right_percent), dice));
    }
    return Fill(part, c, std::move(drafts), dice);
  }
  return ResourceExhausted("{} questions of \"{}\" at difficulty {} in a row belong to another split; raise it",
                           kAttemptsMax, id.family->name, id.difficulty);
}

absl::StatusOr<std::optional<Document>> Writer::MakeOf(Part part, const Case& c, const std::vector<std::string>& texts,
                                                       uint64_t index) const {
  Dice dice(options_.seed, Mix64(~index));
  const int64_t most = DraftsOf(part, dice);
  if (most == 0 || texts.empty()) return std::nullopt;
  // Of a right answer by a wrong way only the answer can be judged.
  const bool tells_steps = part != Part::kJudge && part != Part::kConsolidate;
  const auto first = static_cast<size_t>(dice.Between(0, static_cast<int64_t>(texts.size()) - 1));
  std::vector<Draft> drafts;
  for (size_t i = 0; i < texts.size() && drafts.size() < static_cast<size_t>(most); ++i) {
    Draft draft = Compare(c, texts[(first + i) % texts.size()]);
    if (!tells_steps || draft.right == (draft.wrong_step == 0)) drafts.push_back(std::move(draft));
  }
  if (drafts.empty()) return std::nullopt;
  ASSIGN_OR_RETURN(Document document, Fill(part, c, std::move(drafts), dice));
  return document;
}

absl::StatusOr<Document> Writer::Fill(Part part, const Case& c, std::vector<Draft> drafts, Dice& dice) const {
  Document document;
  document.id = c.id.ToString();
  document.family = std::string(c.id.family->name);
  document.part = part;
  document.difficulty = c.id.difficulty;
  document.question = c.problem.question;
  document.answer = c.answer;
  document.completion = c.solution;
  for (const Draft& draft : drafts) document.wrong_steps.push_back(draft.wrong_step);
  std::vector<Seen> seen;
  std::string candidate;
  switch (part) {
    case Part::kSolver:
      break;
    case Part::kConsolidate:
      seen = SeenDrafts(drafts, dice.Between(0, 1) == 0, dice);
      break;
    case Part::kProver:
      seen = {{"plan", MemberName(dice.Between(1, kMembers)), PlanText(c)}};
      break;
    case Part::kRepair:
    case Part::kReviser:
      seen = SeenCritique(c, drafts, options_.checks, dice);
      break;
    case Part::kPlanner:
      document.completion = PlanText(c);
      break;
    case Part::kCritic:
      seen = SeenDrafts(drafts, /*anonymous=*/true, dice);
      document.completion = CritiqueText(c, drafts, options_.checks);
      break;
    case Part::kVerifier:
    case Part::kJudge:
      candidate = drafts[0].text;
      document.label = drafts[0].right ? "accept" : "reject";
      document.completion =
          part == Part::kJudge ? (drafts[0].right ? "Yes" : "No") : VerificationText(c, drafts[0], options_.checks);
  }
  ASSIGN_OR_RETURN(document.messages, prompts_.Render(part, c.problem.question, seen, candidate));
  return document;
}

}  // namespace conclave::zoo
