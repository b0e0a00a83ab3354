// SPDX-License-Identifier: Apache-2.0
// inspect grade: verdicts for lines of {gold, text} or {gold, answer}.
#include <fmt/ranges.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/inspect.h"
#include "common/status.h"
#include "orchestrator/experiment/grade/grader.h"

namespace conclave::cli {
namespace {

using Json = nlohmann::ordered_json;

// A field that must be a string, or a number standing for its own text.
absl::StatusOr<std::string> Field(const Json& row, const char* key) {
  const Json& value = row.at(key);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return value.dump();
  return InvalidArgument("\"{}\" is neither a string nor a number", key);
}

absl::StatusOr<std::string> GradeLine(const grade::Grader& grader, std::string_view line) {
  const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) return InvalidArgument("is not a JSON object");
  if (!row.contains("gold")) return InvalidArgument("has no \"gold\"");
  if (row.contains("text") == row.contains("answer"))
    return InvalidArgument("needs exactly one of \"text\" and \"answer\"");
  ASSIGN_OR_RETURN(const std::string gold, Field(row, "gold"));
  std::vector<std::string> choices;
  if (row.contains("choices")) {
    for (const Json& choice : row["choices"])
      choices.push_back(choice.is_string() ? choice.get<std::string>() : choice.dump());
  }
  const grade::Reference reference{gold, choices};
  ASSIGN_OR_RETURN(const std::string text, Field(row, row.contains("text") ? "text" : "answer"));
  const grade::Grade g = row.contains("text") ? grader.GradeText(text, reference) : grader.GradeAnswer(text, reference);
  const Json out = {{"outcome", grade::OutcomeName(g.outcome)},
                    {"answer", g.answer.empty() ? Json() : Json(g.answer)},
                    {"gold", g.gold},
                    {"rule", g.rule},
                    {"strict", grade::OutcomeName(g.strict)}};
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::Status GradeStdin(const std::string& name) {
  ASSIGN_OR_RETURN(const auto grader, grade::MakeGrader(name));
  ASSIGN_OR_RETURN(const std::string input, ReadStdin(int64_t{1} << 30));
  int64_t number = 0;
  for (size_t begin = 0; begin < input.size();) {
    const size_t end = std::min(input.find('\n', begin), input.size());
    const std::string_view line = std::string_view(input).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    auto graded = GradeLine(*grader, line);
    if (!graded.ok()) return Annotate(graded.status(), fmt::format("standard input:{}", number));
    std::printf("%s\n", graded->c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddInspectGrade(CLI::App* inspect, Chosen* chosen) {
  auto* command = inspect->add_subcommand("grade", "Verdicts for lines of {gold, text} or {gold, answer}");
  command->footer("Example: echo '{\"gold\":\"18\",\"text\":\"so #### 18\"}' | conclave inspect grade --grader gsm8k");
  auto name = std::make_shared<std::string>();
  command->add_option("--grader", *name, fmt::format("one of: {}", fmt::join(grade::GraderNames(), ", ")))->required();
  command->callback([=] { chosen->action = [=] { return Report(GradeStdin(*name)); }; });
}

}  // namespace conclave::cli
