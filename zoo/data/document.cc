// SPDX-License-Identifier: Apache-2.0
#include "zoo/data/document.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>

#include "common/status.h"

namespace conclave::zoo {
namespace {

using jinja::Value;

struct PartOf {
  std::string_view name;
  std::string_view role;  // file in graphs/roles
};
constexpr std::array<PartOf, kParts> kPartNames = {{{"solver", "solver"},
                                                    {"consolidate", "solver"},
                                                    {"prover", "prover"},
                                                    {"repair", "prover"},
                                                    {"planner", "planner"},
                                                    {"critic", "critic"},
                                                    {"reviser", "reviser"},
                                                    {"verifier", "verifier"},
                                                    {"judge", "judge"}}};

void AppendJson(std::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          fmt::format_to(std::back_inserter(*out), "\\u{:04x}", static_cast<unsigned char>(c));
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

void AppendField(std::string_view name, std::string_view text, std::string* out) {
  fmt::format_to(std::back_inserter(*out), ",\"{}\":", name);
  AppendJson(text, out);
}

// The `seen` of a prompt: one entry for each node, in order of first appearance.
Value SeenValue(std::span<const Seen> seen) {
  std::vector<Value> nodes;
  for (size_t begin = 0; begin < seen.size();) {
    std::vector<Value> utterances;
    size_t end = begin;
    for (; end < seen.size() && seen[end].node == seen[begin].node; ++end) {
      std::vector<std::pair<std::string, Value>> entry;
      if (!seen[end].member.empty()) entry.emplace_back("member", Value::String(seen[end].member));
      entry.emplace_back("text", Value::String(seen[end].text));
      entry.emplace_back("index", Value::Int(static_cast<int64_t>(end - begin)));
      utterances.push_back(Value::Object(std::move(entry)));
    }
    nodes.push_back(
        Value::Object({{"node", Value::String(seen[begin].node)}, {"utterances", Value::List(std::move(utterances))}}));
    begin = end;
  }
  return Value::List(std::move(nodes));
}

}  // namespace

std::string_view PartName(Part part) { return kPartNames[static_cast<size_t>(part)].name; }

std::optional<Part> PartNamed(std::string_view name) {
  for (size_t i = 0; i < kPartNames.size(); ++i) {
    if (kPartNames[i].name == name) return static_cast<Part>(i);
  }
  return std::nullopt;
}

absl::StatusOr<Prompts> Prompts::Load(const std::string& roles_directory) {
  orchestrator::RoleLibrary library;
  RETURN_IF_ERROR(library.AddDirectory(roles_directory));
  Prompts prompts;
  for (size_t i = 0; i < kPartNames.size(); ++i) {
    prompts.roles_[i] = library.Find(kPartNames[i].role);
    if (prompts.roles_[i] == nullptr) {
      return NotFound("{}: there is no role \"{}\"; give graphs/roles of this project", roles_directory,
                      kPartNames[i].role);
    }
  }
  return prompts;
}

absl::StatusOr<std::vector<Prompts::Message>> Prompts::Render(Part part, const std::string& question,
                                                              std::span<const Seen> seen,
                                                              const std::string& candidate) const {
  std::vector<std::pair<std::string, Value>> entries = {{"question", Value::String(question)},
                                                        {"round", Value::Int(0)},
                                                        {"sample", Value::Int(0)},
                                                        {"seen", SeenValue(seen)}};
  if (!candidate.empty()) entries.emplace_back("candidate", Value::Object({{"text", Value::String(candidate)}}));
  const Value context = Value::Object(std::move(entries));
  const orchestrator::CompiledRole& role = *roles_[static_cast<size_t>(part)];
  std::vector<Message> messages;
  if (role.system.has_value()) {
    ASSIGN_OR_RETURN(std::string text, role.system->Render(context));
    messages.push_back({"system", std::move(text)});
  }
  for (const deliberation::v1::Turn& turn : role.proto.examples()) messages.push_back({turn.role(), turn.content()});
  ASSIGN_OR_RETURN(std::string text, role.task->Render(context));
  messages.push_back({"user", std::move(text)});
  return messages;
}

std::string ToJson(const Document& document) {
  std::string json;
  json.reserve(2048);
  json += "{\"id\":";
  AppendJson(document.id, &json);
  AppendField("family", document.family, &json);
  AppendField("role", PartName(document.part), &json);
  fmt::format_to(std::back_inserter(json), ",\"difficulty\":{}", document.difficulty);
  AppendField("question", document.question, &json);
  AppendField("answer", document.answer, &json);
  json += ",\"messages\":[";
  for (size_t i = 0; i < document.messages.size(); ++i) {
    json += i == 0 ? "{\"role\":" : ",{\"role\":";
    AppendJson(document.messages[i].role, &json);
    AppendField("content", document.messages[i].content, &json);
    json += '}';
  }
  json += ']';
  AppendField("completion", document.completion, &json);
  AppendField("label", document.label, &json);
  fmt::format_to(std::back_inserter(json), ",\"wrong_step\":{},\"wrong_steps\":[{}]}}",
                 document.wrong_steps.empty() ? 0 : document.wrong_steps[0], fmt::join(document.wrong_steps, ","));
  return json;
}

}  // namespace conclave::zoo
