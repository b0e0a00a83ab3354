// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/import_rows.h"

#include "common/status.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

const Json& At(const Json& object, const char* key) {
  static const Json& null = *new Json;
  if (!object.is_object()) return null;
  const auto it = object.find(key);
  return it == object.end() ? null : *it;
}

std::string Text(const Json& value) {
  if (value.is_null() || value.is_structured()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

absl::StatusOr<bool> ZeroOrOne(const Json& value, std::string_view what) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number() && (value.get<double>() == 0 || value.get<double>() == 1)) return value.get<double>() == 1;
  return InvalidArgument("{} is {}; 0 or 1 is needed, partial credit cannot be compared item by item here", what,
                         value.is_structured() ? "a list or an object" : value.dump());
}

void ImportRows::Add(const Outcome& row, const Json& question, const std::string& text) {
  imported_.rows.push_back(row);
  if (!question.is_null() && items_.insert(row.id).second) {
    imported_.items.push_back(Dump({{"id", row.id}, {"question", Text(question)}, {"answer", row.gold}}));
  }
  if (text.empty()) return;
  imported_.transcripts.push_back(Dump({{"arm", row.arm},
                                        {"id", row.id},
                                        {"replicate", row.replicate},
                                        {"node", "answer"},
                                        {"member", row.arm},
                                        {"sample", 0},
                                        {"text", text},
                                        {"answer", row.answer.empty() ? Json() : Json(row.answer)}}));
}

}  // namespace conclave::experiment
