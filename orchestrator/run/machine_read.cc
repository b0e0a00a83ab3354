// SPDX-License-Identifier: Apache-2.0
// What is read of a member's words: by the contract of its role, or of the record of a call that was read before.
#include <optional>
#include <utility>

#include "orchestrator/run/machine_impl.h"

namespace conclave::orchestrator {

namespace {

std::optional<double> ReadSureness(const CompiledRole& role, const std::optional<JsonOutput>& json,
                                   const CallFinished& input, const std::string& text) {
  const std::string& after = role.proto.answer().confidence_after();
  if (after.empty() && role.proto.json().confidence().empty()) return std::nullopt;
  if (input.from_record) return input.recorded_confidence;
  if (!after.empty()) return ReadConfidence(role.proto.answer(), text);
  return json.has_value() ? ReadJsonConfidence(role.proto, *json) : std::nullopt;
}

}  // namespace

void Machine::Impl::ReadAnswer(const CompiledNode& node, const std::optional<JsonOutput>& json, CallFinished& input,
                               Utterance* utterance) const {
  utterance->must_answer = true;
  utterance->confidence = ReadSureness(*node.role, json, input, utterance->text);
  if (input.from_record) {
    utterance->answer = input.answer;
  } else if (input.answer.has_value()) {
    utterance->answer = ReadShortAnswer(graph_->grader(), *input.answer);
  } else if (!node.role->proto.has_json()) {
    utterance->answer = ReadAnswerIn(graph_->grader(), utterance->text);
  } else if (json.has_value()) {
    const std::optional<std::string> text = json->TextAt(node.role->proto.json().answer());
    if (text.has_value()) utterance->answer = ReadShortAnswer(graph_->grader(), *text);
  }
}

void Machine::Impl::ReadVerdict(const CompiledNode& node, const std::optional<JsonOutput>& json, bool by_probability,
                                const CallFinished& input, Utterance* utterance) const {
  Reading reading;
  if (by_probability) {
    const std::optional<double> p = input.from_record ? input.recorded_score : input.p_true;
    if (p.has_value()) reading = ReadProbability(*p);
  } else {
    if (!node.role->proto.has_json()) {
      reading = node.role->verdict.Read(utterance->text);
    } else if (json.has_value()) {
      reading = ReadJsonVerdict(node.role->proto, node.role->verdict, *json);
    }
    if (input.from_record) reading.score = input.recorded_score;
  }
  utterance->score = reading.score;
  utterance->accept = reading.accept;
}

Utterance Machine::Impl::MakeUtterance(const Call& call, CallFinished& input) const {
  const CompiledNode& node = graph_->node(call.node);
  Utterance utterance;
  utterance.node = call.node;
  utterance.member = utterance.author = call.spec.member_index;
  utterance.sample = utterance.author_sample = call.spec.key.sample();
  utterance.round = variables_.RoundAt(call.node);
  utterance.about = call.about;
  if (input.from_record) {
    utterance.token_confidence = input.recorded_token_confidence;
  } else if (node.confidence_window > 0 && input.trace.has_value()) {
    utterance.token_confidence = Summarize(*input.trace, node.confidence_window);
  }
  if (graph_->follows()) utterance.prompt = call.spec.prompt;
  utterance.output_tokens = input.usage.output_token_count();
  utterance.text = std::move(input.text);
  const std::string_view shown = WithoutReasoning(utterance.text);
  utterance.shown_begin = static_cast<size_t>(shown.data() - utterance.text.data());
  utterance.shown_size = shown.size();
  std::optional<JsonOutput> json;
  if (node.role->proto.has_json()) json = JsonOutput::Read(utterance.text);
  if (json.has_value()) utterance.fields = json->fields();
  switch (node.role->contract) {
    case ContractKind::kAnswer:
      ReadAnswer(node, json, input, &utterance);
      break;
    case ContractKind::kVerdict:
      ReadVerdict(node, json, call.spec.p_true != nullptr, input, &utterance);
      break;
    case ContractKind::kLabel:
      if (input.from_record) {
        utterance.label = std::move(input.recorded_label);
      } else if (!node.role->proto.has_json()) {
        utterance.label = ReadLabel(node.role->proto.label(), utterance.text);
      } else if (json.has_value()) {
        utterance.label = ReadJsonLabel(node.role->proto, *json);
      }
      break;
    case ContractKind::kRanking:
      utterance.ranking = input.from_record ? std::move(input.recorded_ranking) : ReadOrder(call, utterance.text);
      break;
    case ContractKind::kItems:
    case ContractKind::kText:
      break;
  }
  return utterance;
}

}  // namespace conclave::orchestrator
