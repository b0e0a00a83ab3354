// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/role/role.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/role/json_output.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

constexpr std::string_view kEnding = ".textproto";

// Collects "file:line: role "x": what".
class RoleErrors {
 public:
  RoleErrors(std::string_view file, const pb::Role& role, std::vector<std::string>* errors)
      : file_(file), role_(role), errors_(errors) {}
  void Add(int line, std::string_view what) {
    const std::string place = line > 0 && !file_.empty() ? fmt::format("{}:{}: ", file_, line)
                              : file_.empty()            ? std::string()
                                                         : file_ + ": ";
    errors_->push_back(fmt::format("{}role \"{}\": {}", place, role_.name(), what));
  }

 private:
  std::string file_;
  const pb::Role& role_;
  std::vector<std::string>* errors_;
};

// Nothing of a phrase is left when it is compared.
bool IsBlank(std::string_view phrase) { return phrase.find_first_not_of(" \t\r\n*_`") == std::string_view::npos; }

void CheckRubric(const pb::VerdictContract& verdict, const FieldLines& lines, RoleErrors* errors) {
  if (!verdict.accept().empty() || !verdict.reject().empty() || !verdict.score_after().empty()) {
    errors->Add(lines.LineOf(verdict, "criterion"),
                "criteria and phrases at once; remove accept, reject and score_after, or the criteria");
  }
  if (verdict.criterion_size() > kCriteriaMax) {
    errors->Add(lines.LineOf(verdict, "criterion", kCriteriaMax),
                fmt::format("{} criteria, at most {} allowed", verdict.criterion_size(), kCriteriaMax));
  }
  for (int i = 0; i < verdict.criterion_size(); ++i) {
    const pb::Criterion& criterion = verdict.criterion(i);
    const int line = lines.LineOf(verdict, "criterion", i);
    if (IsBlank(criterion.after())) errors->Add(line, "a criterion needs a phrase; add after: \"CORRECTNESS:\"");
    for (const auto& [field, number] : {std::pair("max", criterion.has_max() ? criterion.max() : 1.0),
                                        {"weight", criterion.has_weight() ? criterion.weight() : 1.0}}) {
      if (!(number > 0 && std::isfinite(number))) {
        errors->Add(line, fmt::format("a criterion has {} {}; it must be above 0", field, number));
      }
    }
  }
}

void CheckLabels(const pb::LabelContract& label, const FieldLines& lines, RoleErrors* errors) {
  if (label.option_size() < 2 || label.option_size() > kLabelsMax) {
    errors->Add(lines.line(), fmt::format("{} options of a label; 2 to {} allowed", label.option_size(), kLabelsMax));
  }
  for (int i = 0; i < label.option_size(); ++i) {
    const auto& options = label.option();
    if (IsBlank(label.option(i))) errors->Add(lines.LineOf(label, "option", i), "an option is empty; remove it");
    if (std::find(options.begin(), options.begin() + i, label.option(i)) != options.begin() + i) {
      errors->Add(lines.LineOf(label, "option", i), fmt::format("option \"{}\" stands twice", label.option(i)));
    }
  }
}

void CheckVerdict(const pb::VerdictContract& verdict, const FieldLines& lines, RoleErrors* errors) {
  if (!(verdict.accept_from() >= 0 && verdict.accept_from() <= 1)) {
    errors->Add(lines.LineOf(verdict, "accept_from"),
                fmt::format("accept_from is {}; it is a score and must be in [0, 1]", verdict.accept_from()));
  }
  if (!verdict.criterion().empty()) return CheckRubric(verdict, lines, errors);
  if (verdict.has_accept_from()) {
    errors->Add(lines.LineOf(verdict, "accept_from"), "accept_from without criteria; add criterion { .. }");
  }
  if (verdict.accept().empty() || verdict.reject().empty()) {
    errors->Add(lines.line(), "a verdict needs at least one accept and one reject phrase");
  }
  for (const auto& [phrases, field] : {std::pair(&verdict.accept(), "accept"), {&verdict.reject(), "reject"}}) {
    if (phrases->size() > kVerdictPhrasesMax) {
      errors->Add(lines.LineOf(verdict, field),
                  fmt::format("{} {} phrases, at most {} allowed", phrases->size(), field, kVerdictPhrasesMax));
    }
    for (int i = 0; i < phrases->size(); ++i) {
      if (IsBlank(phrases->Get(i))) {
        errors->Add(lines.LineOf(verdict, field, i), fmt::format("an {} phrase is empty; remove it", field));
      }
    }
  }
  for (const std::string& phrase : verdict.accept()) {
    if (std::find(verdict.reject().begin(), verdict.reject().end(), phrase) != verdict.reject().end()) {
      errors->Add(lines.LineOf(verdict, "reject"), fmt::format("\"{}\" both accepts and rejects", phrase));
    }
  }
  if (verdict.has_score_max() && !(verdict.score_max() > 0 && std::isfinite(verdict.score_max()))) {
    errors->Add(lines.LineOf(verdict, "score_max"),
                fmt::format("score_max is {}; it is the number that means 1 and must be above 0", verdict.score_max()));
  }
}

void CheckAnswer(const pb::AnswerContract& answer, bool json, const FieldLines& lines, RoleErrors* errors) {
  if (!answer.has_confidence_max()) return;
  if (!(answer.confidence_max() > 0 && std::isfinite(answer.confidence_max()))) {
    errors->Add(lines.LineOf(answer, "confidence_max"),
                fmt::format("confidence_max is {}; it is the number that means certain and must be above 0",
                            answer.confidence_max()));
  }
  if (IsBlank(answer.confidence_after()) && !json) {
    errors->Add(lines.LineOf(answer, "confidence_max"),
                "confidence_max without a phrase; add confidence_after: \"CONFIDENCE:\"");
  }
}

// What the text says is for those to judge who hold to it.
void CheckConstraint(const pb::Role& role, const FieldLines& lines, RoleErrors* errors) {
  const pb::OutputConstraint& constraint = role.constraint();
  const std::string& source = constraint.has_json_schema() ? constraint.json_schema()
                              : constraint.has_regex()     ? constraint.regex()
                                                           : constraint.grammar();
  if (constraint.constraint_case() == pb::OutputConstraint::CONSTRAINT_NOT_SET) {
    errors->Add(lines.LineOf(role, "constraint"), "constraint is empty; add json_schema, regex or grammar");
  } else if (source.size() > kConstraintBytesMax) {
    errors->Add(lines.LineOf(role, "constraint"),
                fmt::format("a constraint of {} bytes; at most {} allowed", source.size(), kConstraintBytesMax));
  }
}

void CheckRepair(const pb::Role& role, const FieldLines& lines, RoleErrors* errors) {
  if (role.repair().size() > kRepairBytesMax) {
    errors->Add(lines.LineOf(role, "repair"),
                fmt::format("repair of {} bytes; at most {} allowed", role.repair().size(), kRepairBytesMax));
  }
  if (role.has_text() && !role.has_json()) {
    errors->Add(lines.LineOf(role, "repair"), "any output is text: there is nothing to repair; remove repair");
  }
}

void CheckExamples(const pb::Role& role, const FieldLines& lines, RoleErrors* errors) {
  if (role.examples_size() > kRoleExamplesMax) {
    errors->Add(lines.LineOf(role, "examples", kRoleExamplesMax),
                fmt::format("{} example turns, at most {} allowed", role.examples_size(), kRoleExamplesMax));
  }
  for (int i = 0; i < role.examples_size(); ++i) {
    const std::string_view expected = i % 2 == 0 ? "user" : "assistant";
    if (role.examples(i).role() != expected) {
      errors->Add(lines.LineOf(role, "examples", i),
                  fmt::format("example turn {} has role \"{}\", expected \"{}\"; turns alternate and begin with user",
                              i + 1, role.examples(i).role(), expected));
    }
  }
  if (role.examples_size() % 2 != 0) {
    errors->Add(lines.LineOf(role, "examples", role.examples_size() - 1), "the last example has no assistant turn");
  }
}

std::optional<PromptTemplate> ParsePrompt(const pb::Role& role, const FieldLines& lines, const char* field,
                                          const std::string& source, RoleErrors* errors) {
  absl::StatusOr<PromptTemplate> parsed = PromptTemplate::Parse(source);
  if (parsed.ok()) return *std::move(parsed);
  errors->Add(lines.LineOf(role, field), fmt::format("{}: {}", field, Message(parsed.status())));
  return std::nullopt;
}

}  // namespace

std::vector<std::string> CheckSampling(const pb::SamplingDefaults& sampling) {
  std::vector<std::string> errors;
  const auto require = [&](bool ok, const char* field, double value, const char* range) {
    if (!ok) errors.push_back(fmt::format("{} is {}; it must be in {}", field, value, range));
  };
  if (sampling.has_temperature()) {
    const float t = sampling.temperature();
    require(t >= 0 && t <= 100, "temperature", t, "[0, 100]");
  }
  if (sampling.has_top_k()) require(sampling.top_k() >= 0, "top_k", sampling.top_k(), "[0, ..)");
  if (sampling.has_top_p()) require(sampling.top_p() > 0 && sampling.top_p() <= 1, "top_p", sampling.top_p(), "(0, 1]");
  if (sampling.has_min_p()) require(sampling.min_p() >= 0 && sampling.min_p() < 1, "min_p", sampling.min_p(), "[0, 1)");
  if (sampling.has_repetition_penalty()) {
    const float penalty = sampling.repetition_penalty();
    require(penalty > 0 && penalty <= 10, "repetition_penalty", penalty, "(0, 10]");
  }
  if (sampling.has_max_output_tokens()) {
    require(sampling.max_output_tokens() >= 1, "max_output_tokens", sampling.max_output_tokens(), "[1, ..)");
  }
  if (sampling.has_experts_per_token()) {
    require(sampling.experts_per_token() >= 1, "experts_per_token", sampling.experts_per_token(),
            "[1, the model's own]");
  }
  if (sampling.stop_size() > kStopTextsMax) {
    errors.push_back(fmt::format("{} stop texts, at most {} allowed", sampling.stop_size(), kStopTextsMax));
  }
  for (const std::string& stop : sampling.stop()) {
    if (stop.empty() || stop.size() > 256) {
      errors.push_back(fmt::format("a stop text of {} bytes; 1 to 256 allowed", stop.size()));
    }
  }
  return errors;
}

void OverrideSampling(const pb::SamplingDefaults& over, pb::SamplingDefaults* base) {
  if (!over.stop().empty()) base->clear_stop();
  base->MergeFrom(over);
}

std::shared_ptr<const CompiledRole> CompileRole(const pb::Role& role, const FieldLines& lines, std::string_view file,
                                                std::vector<std::string>* errors) {
  const size_t before = errors->size();
  RoleErrors found(file, role, errors);
  if (role.name().empty()) found.Add(lines.line(), "a role needs a name");
  auto compiled = std::make_shared<CompiledRole>();
  compiled->proto = role;
  compiled->file = file;
  if (!role.system().empty()) compiled->system = ParsePrompt(role, lines, "system", role.system(), &found);
  if (role.task().empty()) found.Add(lines.line(), "a role needs a task");
  compiled->task = ParsePrompt(role, lines, "task", role.task(), &found);
  switch (role.contract_case()) {
    case pb::Role::kAnswer:
      compiled->contract = ContractKind::kAnswer;
      CheckAnswer(role.answer(), !role.json().confidence().empty(), lines.In(role, "answer"), &found);
      break;
    case pb::Role::kVerdict:
      compiled->contract = ContractKind::kVerdict;
      CheckVerdict(role.verdict(), lines.In(role, "verdict"), &found);
      compiled->verdict = VerdictReader(role.verdict());
      break;
    case pb::Role::kText:
      compiled->contract = ContractKind::kText;
      break;
    case pb::Role::kRanking:
      compiled->contract = ContractKind::kRanking;
      if (IsBlank(role.ranking().after())) {
        found.Add(lines.In(role, "ranking").line(), "a ranking needs a phrase; add after: \"RANKING:\"");
      }
      break;
    case pb::Role::kLabel:
      compiled->contract = ContractKind::kLabel;
      CheckLabels(role.label(), lines.In(role, "label"), &found);
      break;
    case pb::Role::kItems:
      compiled->contract = ContractKind::kItems;
      if (role.items().max() < 1 || role.items().max() > kItemsMax) {
        found.Add(lines.In(role, "items").line(),
                  fmt::format("items has max {}; 1 to {} allowed", role.items().max(), kItemsMax));
      }
      break;
    case pb::Role::CONTRACT_NOT_SET:
      found.Add(lines.line(),
                "how is its output read? add answer {}, verdict {..}, ranking {..}, label {..}, items {..} or text {}");
  }
  for (const std::string& what : CheckSampling(role.sampling())) found.Add(lines.LineOf(role, "sampling"), what);
  if (role.has_json()) {
    for (const std::string& what : CheckJson(role)) found.Add(lines.LineOf(role, "json"), what);
  }
  CheckExamples(role, lines, &found);
  if (!role.repair().empty()) CheckRepair(role, lines, &found);
  if (role.has_constraint()) {
    CheckConstraint(role, lines, &found);
    compiled->constraint = std::make_shared<const pb::OutputConstraint>(role.constraint());
  }
  if (errors->size() != before) return nullptr;
  return compiled;
}

std::vector<std::string> RoleLibrary::AddText(std::string_view text, const std::string& file) {
  std::vector<std::string> errors;
  pb::Role role;
  const ParsedText parsed = ParseTextproto(text, &role);
  for (const TextError& error : parsed.errors) {
    errors.push_back(error.line > 0 ? fmt::format("{}:{}: {}", file, error.line, error.message)
                                    : fmt::format("{}: {}", file, error.message));
  }
  if (!errors.empty()) return errors;
  const std::string stem = std::filesystem::path(file).stem().string();
  if (role.name() != stem) {
    errors.push_back(fmt::format("{}:{}: role \"{}\": the file is named \"{}\"; both must be the same", file,
                                 parsed.lines().LineOf(role, "name"), role.name(), stem));
  }
  const auto compiled = CompileRole(role, parsed.lines(), file, &errors);
  if (compiled == nullptr || !errors.empty()) return errors;
  roles_[role.name()] = compiled;
  return errors;
}

absl::Status RoleLibrary::Add(const pb::Role& role) {
  std::vector<std::string> errors;
  const auto compiled = CompileRole(role, FieldLines(), "", &errors);
  if (compiled == nullptr) return InvalidArgument("{}", fmt::join(errors, "\n"));
  roles_[role.name()] = compiled;
  return absl::OkStatus();
}

absl::Status RoleLibrary::AddDirectory(const std::string& directory) {
  std::error_code code;
  std::vector<std::string> paths;
  for (auto it = std::filesystem::directory_iterator(directory, code);
       !code && it != std::filesystem::directory_iterator(); it.increment(code)) {
    if (it->path().extension() == kEnding) paths.push_back(it->path().string());
  }
  if (code) return NotFound("{}: no directory of roles can be read here: {}", directory, code.message());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> errors;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kTextprotoBytesMax));
    const std::vector<std::string> more = AddText(text, path);
    errors.insert(errors.end(), more.begin(), more.end());
  }
  if (!errors.empty()) return InvalidArgument("{}", fmt::join(errors, "\n"));
  return absl::OkStatus();
}

std::shared_ptr<const CompiledRole> RoleLibrary::Find(std::string_view name) const {
  const auto it = roles_.find(name);
  return it == roles_.end() ? nullptr : it->second;
}

std::vector<std::string> RoleLibrary::names() const {
  std::vector<std::string> names;
  for (const auto& [name, role] : roles_) names.push_back(name);
  return names;
}

}  // namespace conclave::orchestrator
