// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/published.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "common/status.h"

namespace conclave::benchmark {
namespace {

using Numbers = JsonLine::Numbers;

// The content of the last balanced \boxed{..} of a worked solution.
std::string_view LastBoxed(std::string_view solution) {
  constexpr std::string_view kCommand = "\\boxed";
  const size_t at = solution.rfind(kCommand);
  if (at == std::string_view::npos) return "";
  size_t begin = at + kCommand.size();
  if (begin < solution.size() && solution[begin] == ' ') {  // \boxed 5
    const size_t end = solution.find_first_of("$ .", begin + 1);
    return solution.substr(begin + 1, end == std::string_view::npos ? end : end - begin - 1);
  }
  if (begin >= solution.size() || solution[begin] != '{') return "";
  int depth = 0;
  for (size_t i = begin; i < solution.size(); ++i) {
    if (solution[i] == '{') ++depth;
    if (solution[i] == '}' && --depth == 0) return solution.substr(begin + 1, i - begin - 1);
  }
  return "";
}

// MATH {"problem","level","type","solution"}, MATH-500 {"problem","solution","answer","subject","unique_id"} and AIME
// {"problem","answer","id"}.
absl::StatusOr<Item> ReadMath(Source& source) {
  Item item;
  ASSIGN_OR_RETURN(item.question, source.Required("problem"));
  ASSIGN_OR_RETURN(item.id, source.Optional("unique_id"));
  if (item.id.empty()) {
    ASSIGN_OR_RETURN(item.id, source.Optional("id"));
  }
  if (item.id.empty()) item.id = fmt::format("math-{}-#{}", source.stem, source.reader.line_number() - 1);
  ASSIGN_OR_RETURN(item.solution, source.Optional("solution"));
  ASSIGN_OR_RETURN(item.answer, source.Optional("answer"));
  if (item.answer.empty()) item.answer = std::string(LastBoxed(item.solution));
  if (item.answer.empty()) {
    return source.reader.Error("has no field \"answer\", and its \"solution\" no \\boxed{..} to take one from");
  }
  ASSIGN_OR_RETURN(item.stratum, source.Optional("subject"));
  if (item.stratum.empty()) {
    ASSIGN_OR_RETURN(item.stratum, source.Optional("type"));
  }
  return item;
}

// A letter that names one of the choices.
absl::Status CheckLetter(Source& source, const Item& item, std::string_view field) {
  if (item.answer.size() == 1 && item.answer[0] >= 'A' &&
      static_cast<size_t>(item.answer[0] - 'A') < item.choices.size()) {
    return absl::OkStatus();
  }
  return source.reader.Error(fmt::format("field \"{}\" is \"{}\", which names none of the {} choices", field,
                                         item.answer, item.choices.size()));
}

// {"subject","idx","question","choices","answer": "B"}.
absl::StatusOr<Item> ReadMmlu(Source& source) {
  Item item;
  ASSIGN_OR_RETURN(item.stratum, source.Required("subject"));
  ASSIGN_OR_RETURN(const std::string index, source.Required("idx", Numbers::kAsText));
  item.id = fmt::format("{}-{}-{}", source.stem, item.stratum, index);
  ASSIGN_OR_RETURN(item.question, source.Required("question"));
  ASSIGN_OR_RETURN(item.choices, source.Choices("choices"));
  ASSIGN_OR_RETURN(item.answer, source.Required("answer"));
  RETURN_IF_ERROR(CheckLetter(source, item, "answer"));
  return item;
}

// {"question_id","question","options","answer": "I","category","cot_content"}.
absl::StatusOr<Item> ReadMmluPro(Source& source) {
  Item item;
  ASSIGN_OR_RETURN(const std::string id, source.Required("question_id", Numbers::kAsText));
  item.id = "mmlu-pro-" + id;
  ASSIGN_OR_RETURN(item.stratum, source.Required("category"));
  ASSIGN_OR_RETURN(item.question, source.Required("question"));
  ASSIGN_OR_RETURN(item.choices, source.Choices("options"));
  ASSIGN_OR_RETURN(item.answer, source.Required("answer"));
  ASSIGN_OR_RETURN(item.solution, source.Optional("cot_content"));
  RETURN_IF_ERROR(CheckLetter(source, item, "answer"));
  return item;
}

// ARC as Hugging Face has it, {"id","question","choices":{"text":[..],"label":[..]},"answerKey"}, and as its authors
// do, {"id","question":{"stem","choices":[{"text","label"}]},"answerKey"}. Labels are A to E, or 1 to 5.
absl::StatusOr<Item> ReadArc(Source& source) {
  Item item;
  ASSIGN_OR_RETURN(item.id, source.Required("id", Numbers::kAsText));
  ASSIGN_OR_RETURN(const std::string key, source.Required("answerKey", Numbers::kAsText));
  std::vector<std::string> labels;
  const auto add = [&](simdjson::simdjson_result<simdjson::dom::element> text,
                       simdjson::simdjson_result<simdjson::dom::element> label) {
    std::string_view words;
    std::string_view name;
    if (text.get(words) != simdjson::SUCCESS || label.get(name) != simdjson::SUCCESS) return false;
    item.choices.emplace_back(words);
    labels.emplace_back(name);
    return item.choices.size() <= kChoicesMax;
  };
  const simdjson::dom::object& row = source.json.object();
  bool ok = true;
  simdjson::dom::array texts;
  simdjson::dom::array choices;
  if (row["choices"]["text"].get(texts) == simdjson::SUCCESS) {
    ASSIGN_OR_RETURN(item.question, source.Required("question"));
    for (size_t k = 0; k < texts.size(); ++k) ok = ok && add(texts.at(k), row["choices"]["label"].at(k));
  } else if (row["question"]["choices"].get(choices) == simdjson::SUCCESS) {
    std::string_view stem;
    ok = row["question"]["stem"].get(stem) == simdjson::SUCCESS;
    item.question = std::string(stem);
    for (simdjson::dom::element choice : choices) ok = ok && add(choice["text"], choice["label"]);
  } else {
    ok = false;
  }
  if (!ok || item.question.empty()) return source.reader.Error("is no ARC question with choices of text and label");
  for (size_t k = 0; k < labels.size(); ++k) {
    if (labels[k] == key) item.answer = std::string(1, static_cast<char>('A' + k));
  }
  if (item.answer.empty()) {
    return source.reader.Error(fmt::format("field \"answerKey\" is \"{}\", which labels no choice", key));
  }
  return item;
}

// {"task_id","prompt","entry_point","canonical_solution","test"}; the answer is what the code grader reads.
absl::StatusOr<Item> ReadHumanEval(Source& source) {
  Item item;
  ASSIGN_OR_RETURN(item.id, source.Required("task_id"));
  ASSIGN_OR_RETURN(item.question, source.Required("prompt"));
  ASSIGN_OR_RETURN(item.solution, source.Optional("canonical_solution"));
  for (const char* field : {"prompt", "test", "entry_point"}) {
    ASSIGN_OR_RETURN(const std::string text, source.Required(field));
    item.answer += fmt::format("{}\"{}\":{}", item.answer.empty() ? "{" : ",", field,
                               simdjson::minify(source.json.object().at_key(field).value()));
  }
  item.answer += "}";
  return item;
}

// {"quiz","names","solution_text","people",..}.
absl::StatusOr<Item> ReadKnights(Source& source) {
  Item item;
  item.id = fmt::format("{}-#{}", source.stem, source.reader.line_number() - 1);
  ASSIGN_OR_RETURN(item.question, source.Required("quiz"));
  ASSIGN_OR_RETURN(item.answer, source.Required("solution_text"));
  ASSIGN_OR_RETURN(const std::string people, source.Required("people", Numbers::kAsText));
  item.stratum = people + " people";
  return item;
}

struct Form {
  std::string_view name;
  std::array<const char*, 3> fields;  // all of them tell the form
  ReadItem read;
};

constexpr std::array<Form, 6> kForms = {{
    {"arc", {"id", "question", "answerKey"}, &ReadArc},
    {"humaneval", {"task_id", "prompt", "test"}, &ReadHumanEval},
    {"knights_knaves", {"quiz", "names", "solution_text"}, &ReadKnights},
    {"math", {"problem", "problem", "problem"}, &ReadMath},
    {"mmlu", {"subject", "choices", "idx"}, &ReadMmlu},
    {"mmlu_pro", {"question_id", "options", "category"}, &ReadMmluPro},
}};

}  // namespace

absl::StatusOr<std::string> Source::Required(std::string_view field, Numbers numbers) {
  ASSIGN_OR_RETURN(const std::string_view text, json.Text(reader, field, numbers));
  if (text.empty()) return reader.Error(fmt::format("field \"{}\" is empty", field));
  return std::string(text);
}

absl::StatusOr<std::string> Source::Optional(std::string_view field) {
  ASSIGN_OR_RETURN(const auto text, json.OptionalText(reader, field, Numbers::kAsText));
  return std::string(text.value_or(""));
}

absl::StatusOr<std::vector<std::string>> Source::Choices(std::string_view field) {
  std::vector<std::string> choices;
  simdjson::dom::element value;
  if (json.object().at_key(field).get(value) != simdjson::SUCCESS) return choices;
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) {
    return reader.Error(fmt::format("field \"{}\" must be an array of strings", field));
  }
  for (simdjson::dom::element element : array) {
    std::string_view text;
    if (element.get(text) != simdjson::SUCCESS) {
      return reader.Error(fmt::format("field \"{}\" must be an array of strings", field));
    }
    if (choices.size() == kChoicesMax) {
      return reader.Error(fmt::format("more than {} {}; options are lettered A to Z", kChoicesMax, field));
    }
    choices.emplace_back(text);
  }
  return choices;
}

ReadItem PublishedReader(std::string_view format) {
  for (const Form& form : kForms) {
    if (form.name == format) return form.read;
  }
  return nullptr;
}

ReadItem PublishedReaderFor(const JsonLine& json) {
  for (const Form& form : kForms) {
    bool all = true;
    for (const char* field : form.fields) all = all && json.Has(field);
    if (all) return form.read;
  }
  return nullptr;
}

}  // namespace conclave::benchmark
