// SPDX-License-Identifier: Apache-2.0
// Training documents: a role's messages as the shipped graphs render them, and what a good member answers.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/role/role.h"

namespace conclave::zoo {

// What a document trains. Several belong to one role file: the solver that sees drafts consolidates them.
enum class Part { kSolver, kConsolidate, kProver, kRepair, kPlanner, kCritic, kReviser, kVerifier, kJudge };
inline constexpr int kParts = 9;

std::string_view PartName(Part part);
std::optional<Part> PartNamed(std::string_view name);

// Something said before, as a graph shows it.
struct Seen {
  std::string node;    // "draft", "plan", "critique"
  std::string member;  // empty: anonymous
  std::string text;
};

// Renders the roles' prompts. Immutable.
class Prompts {
 public:
  // The role files of the project. Errors are those of RoleLibrary; NOT_FOUND for a role that is missing.
  static absl::StatusOr<Prompts> Load(const std::string& roles_directory);

  struct Message {
    std::string role;
    std::string content;
  };
  // The messages that a node of this part sends: what it sees is grouped by node, in order; `candidate` is what a
  // verifier or judge looks at.
  absl::StatusOr<std::vector<Message>> Render(Part part, const std::string& question, std::span<const Seen> seen,
                                              const std::string& candidate) const;

 private:
  Prompts() = default;
  std::array<std::shared_ptr<const orchestrator::CompiledRole>, kParts> roles_;
};

struct Document {
  std::string id;  // of the problem: ProblemId (problems.h)
  std::string family;
  Part part = Part::kSolver;
  int difficulty = 0;
  std::string question;
  std::string answer;
  std::vector<Prompts::Message> messages;
  std::string completion;
  std::string label;                 // "accept" or "reject" of a verifier and a judge
  std::vector<int64_t> wrong_steps;  // of each draft shown, from 1; 0: none
};

// One line of JSON without its end.
std::string ToJson(const Document& document);

}  // namespace conclave::zoo
