// SPDX-License-Identifier: Apache-2.0
// Roles, parsed and checked: how a member is asked, and how its words are read.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "conclave/deliberation/v1/role.pb.h"
#include "orchestrator/role/contract.h"
#include "orchestrator/role/script.h"
#include "protos/textproto.h"

namespace conclave::orchestrator {

// ---- Limits, tested at the limit and one above.
inline constexpr int kRoleExamplesMax = 64;
inline constexpr int kVerdictPhrasesMax = 32;
inline constexpr int kCriteriaMax = 16;
inline constexpr int kLabelsMax = 32;
inline constexpr int kItemsMax = 64;
inline constexpr size_t kConstraintBytesMax = 128 << 10;  // as conclave.inference.v1.Constraint
inline constexpr size_t kRepairBytesMax = 4096;
inline constexpr int kStopTextsMax = 16;  // as conclave.inference.v1.Stopping

// Immutable, shared by the graphs that use it.
struct CompiledRole {
  deliberation::v1::Role proto;
  std::string file;  // for messages; may be empty
  std::optional<PromptTemplate> system;
  std::optional<PromptTemplate> task;  // always set
  ContractKind contract = ContractKind::kText;
  VerdictReader verdict;                                                 // of kVerdict
  std::shared_ptr<const deliberation::v1::OutputConstraint> constraint;  // null: none
};

// Checks and parses one role. On errors ("file:line: role "x": what; fix") appends them all and returns null.
std::shared_ptr<const CompiledRole> CompileRole(const deliberation::v1::Role& role, const FieldLines& lines,
                                                std::string_view file, std::vector<std::string>* errors);

// What is wrong with sampling knobs, one "what; fix" each; `where` begins each, e.g. "sampling".
std::vector<std::string> CheckSampling(const deliberation::v1::SamplingDefaults& sampling);

// `over` wins field by field; a repeated `stop` replaces as a whole when it is not empty.
void OverrideSampling(const deliberation::v1::SamplingDefaults& over, deliberation::v1::SamplingDefaults* base);

// The roles that graphs may use, by name.
class RoleLibrary {
 public:
  // Adds a role from its text. The file's name without directory and ending must be the role's name.
  // Returns every error found.
  std::vector<std::string> AddText(std::string_view text, const std::string& file);
  // Adds a role that has no file. INVALID_ARGUMENT lists every error.
  absl::Status Add(const deliberation::v1::Role& role);
  // Adds every *.textproto of a directory. NOT_FOUND without the directory; INVALID_ARGUMENT lists every error.
  absl::Status AddDirectory(const std::string& directory);

  // Null when there is none.
  std::shared_ptr<const CompiledRole> Find(std::string_view name) const;
  std::vector<std::string> names() const;

 private:
  std::map<std::string, std::shared_ptr<const CompiledRole>, std::less<>> roles_;
};

}  // namespace conclave::orchestrator
