// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/run/seeds.h"
#include "orchestrator/run/variables.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::Sees;
using jinja::Value;
using Entries = std::vector<std::pair<std::string, Value>>;

bool Reads(const CompiledRole& role, std::string_view name) {
  return role.task->Reads(name) || (role.system.has_value() && role.system->Reads(name));
}

const Value& ShownValue(const Utterance& utterance) {
  if (utterance.shown_value.IsMissing()) utterance.shown_value = Value::String(std::string(utterance.shown()));
  return utterance.shown_value;
}

void AddTurn(std::string_view role, std::string content, Prompt* prompt) {
  auto& message = prompt->messages.emplace_back();
  message.set_role(std::string(role));
  message.set_content(std::move(content));
}

const Value& FullValue(const Utterance& utterance) {
  if (utterance.full_value.IsMissing()) utterance.full_value = Value::String(utterance.text);
  return utterance.full_value;
}

// The utterances in the order shown: the best-scored first where a limit cuts, then shuffled if asked.
void Arrange(const CompiledSees& sees, uint64_t seed, std::vector<const Utterance*>* shown) {
  const size_t limit = sees.limit > 0 ? static_cast<size_t>(sees.limit) : shown->size();
  const bool scored =
      std::any_of(shown->begin(), shown->end(), [](const Utterance* u) { return u->Score().has_value(); });
  if (sees.lowest) {
    std::stable_sort(shown->begin(), shown->end(), [](const Utterance* a, const Utterance* b) {
      return a->Score().value_or(1) < b->Score().value_or(1);
    });
  } else if (scored && limit < shown->size()) {
    std::stable_sort(shown->begin(), shown->end(), [](const Utterance* a, const Utterance* b) {
      return a->Score().value_or(-1) > b->Score().value_or(-1);
    });
    shown->resize(limit);
  }
  if (sees.shuffle) {
    std::vector<const Utterance*> shuffled;
    shuffled.reserve(shown->size());
    for (const int32_t i : Permutation(seed, static_cast<int32_t>(shown->size()))) {
      shuffled.push_back((*shown)[static_cast<size_t>(i)]);
    }
    *shown = std::move(shuffled);
  }
  if (limit < shown->size()) shown->resize(limit);
}

}  // namespace

PromptBuilder::PromptBuilder(const CompiledGraph& graph, const RunSpec& spec, const RunValues& values,
                             const Variables& variables, uint64_t question, int32_t node,
                             const std::vector<int32_t>& seats)
    : node_(graph.node(node)),
      spec_(spec),
      values_(values),
      variables_(variables),
      question_(question),
      seats_(seats),
      shared_seen_(node_.sees.size()) {}

Value PromptBuilder::Entry(const CompiledSees& sees, const Utterance& utterance, int32_t index) const {
  Entries entry;
  if (!sees.anonymous && utterance.member >= 0) {
    entry.emplace_back("member", Value::String(spec_.members[static_cast<size_t>(utterance.member)].name));
  }
  const std::optional<double> score = utterance.Score();
  switch (sees.part) {
    case Sees::ANSWER:
      entry.emplace_back("text",
                         utterance.answer.has_value() ? Value::String(*utterance.answer) : ShownValue(utterance));
      break;
    case Sees::SCORE:
      entry.emplace_back("text", Value::String(fmt::format("{:.2f}", *score)));
      break;
    case Sees::FULL:
      entry.emplace_back("text", FullValue(utterance));
      break;
    default:
      entry.emplace_back("text", ShownValue(utterance));
  }
  if (utterance.answer.has_value() && sees.part != Sees::SCORE) {
    entry.emplace_back("answer", Value::String(*utterance.answer));
  }
  if (score.has_value()) entry.emplace_back("score", Value::Float(*score));
  if (utterance.confidence.has_value()) entry.emplace_back("confidence", Value::Float(*utterance.confidence));
  const bool words = sees.part != Sees::ANSWER && sees.part != Sees::SCORE;
  if (words && !utterance.fields.IsMissing()) entry.emplace_back("fields", utterance.fields);
  entry.emplace_back("index", Value::Int(index));
  return Value::Object(std::move(entry));
}

bool PromptBuilder::IsAmong(const CompiledSees& sees, const Slot& slot, const Utterance& utterance) const {
  if (sees.among == Sees::EVERYBODY) return true;
  const auto seats = static_cast<int64_t>(seats_.size());
  const int64_t samples = sees.by_sample ? node_.samples : 1;
  // A place in the circle, or -1 for somebody who does not sit in it.
  const auto place = [&](int32_t member, int32_t sample) -> int64_t {
    const auto at = std::find(seats_.begin(), seats_.end(), member);
    if (at == seats_.end() || (sees.by_sample && sample >= samples)) return -1;
    return (at - seats_.begin()) * samples + (sees.by_sample ? sample : 0);
  };
  const int64_t reader = place(slot.member, slot.sample);
  const int64_t writer = place(utterance.author, utterance.author_sample);
  if (writer < 0 || writer == reader) return false;
  if (sees.among == Sees::STAR) return reader == 0 || writer == 0;
  const int64_t places = seats * samples;
  const int64_t distance = (writer - reader + places) % places;
  return distance == 1 || distance == places - 1;
}

bool PromptBuilder::IsAbout(const CompiledSees& sees, const Utterance& utterance, int32_t subject) const {
  int32_t up = utterance.about;
  while (sees.of_line && up >= 0 && up != subject) up = values_.utterance(up).about;
  return up == subject;
}

bool PromptBuilder::IsShown(const CompiledSees& sees, const Slot& slot, const Utterance& utterance) const {
  const bool own = utterance.author == slot.member && (!sees.by_sample || utterance.author_sample == slot.sample);
  if (sees.of_subject && !IsAbout(sees, utterance, Subject(slot).id)) return false;
  if ((sees.own && !own) || (sees.others && own) || !IsAmong(sees, slot, utterance)) return false;
  // A part that is not there is not shown.
  if (sees.part == Sees::ANSWER && utterance.must_answer && !utterance.answer.has_value()) return false;
  if (sees.part == Sees::SCORE) return utterance.Score().has_value();
  return !utterance.shown().empty();
}

Value PromptBuilder::SeenAnew(const CompiledSees& sees, const Slot& slot) const {
  std::vector<const Utterance*> shown;
  const auto add = [&](const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      const Utterance& utterance = values_.utterance(id);
      if (IsShown(sees, slot, utterance)) shown.push_back(&utterance);
    }
  };
  const NodeState& read = values_.node(sees.node);
  if (sees.memory <= 1) {
    add(sees.node == node_.index ? read.previous : read.utterances);
  } else {
    const size_t rounds = std::min(read.history.size(), static_cast<size_t>(sees.memory));
    for (size_t i = read.history.size() - rounds; i < read.history.size(); ++i) add(read.history[i]);
  }
  uint64_t seed = 0;
  if (sees.shuffle) {
    const std::string path = values_.node(node_.index).path + "/" + sees.name;
    seed = DeriveSeed(
        {spec_.seed, question_, path, spec_.members[static_cast<size_t>(slot.member)].name, slot.sample, slot.subject});
  }
  Arrange(sees, seed, &shown);
  std::vector<Value> entries;
  entries.reserve(shown.size());
  for (size_t i = 0; i < shown.size(); ++i) entries.push_back(Entry(sees, *shown[i], static_cast<int32_t>(i)));
  return Value::List(std::move(entries));
}

Value PromptBuilder::Seen(size_t sees_index, const Slot& slot) {
  const CompiledSees& sees = node_.sees[sees_index];
  if (sees.DiffersByReader() || sees.of_subject) return SeenAnew(sees, slot);
  Value& shared = shared_seen_[sees_index];
  if (shared.IsMissing()) shared = SeenAnew(sees, slot);
  return shared;
}

absl::Status PromptBuilder::AddMessage(const char* role, const char* field, const PromptTemplate& source,
                                       const Value& context, Prompt* prompt) const {
  absl::StatusOr<std::string> text = source.Render(context);
  if (!text.ok()) {
    return InvalidArgument("node \"{}\": role \"{}\": {}: {}", node_.full_name, node_.role->proto.name(), field,
                           Message(text.status()));
  }
  AddTurn(role, *std::move(text), prompt);
  return absl::OkStatus();
}

const Utterance& PromptBuilder::Subject(const Slot& slot) const {
  const NodeState& state = values_.node(node_.index);
  return values_.utterance(state.judged[static_cast<size_t>(slot.subject)]);
}

Entries PromptBuilder::About(const Utterance& utterance) const {
  Entries entries = {{"text", ShownValue(utterance)}};
  if (utterance.answer.has_value()) entries.emplace_back("answer", Value::String(*utterance.answer));
  if (!utterance.fields.IsMissing()) entries.emplace_back("fields", utterance.fields);
  return entries;
}

void PromptBuilder::AddCandidates(const Slot& slot, Entries* entries) const {
  if (slot.compared < 0) {
    const Utterance& subject = Subject(slot);
    if (subject.blank) return;
    Entries candidate = About(subject);
    if (subject.member >= 0) {
      candidate.emplace_back("member", Value::String(spec_.members[static_cast<size_t>(subject.member)].name));
    }
    if (subject.score.has_value()) candidate.emplace_back("score", Value::Float(*subject.score));
    if (!subject.needs.empty()) {
      std::vector<Value> needs;
      for (const int32_t need : subject.needs) needs.push_back(Value::Object(About(values_.utterance(need))));
      candidate.emplace_back("needs", Value::List(std::move(needs)));
    }
    if (subject.about >= 0) candidate.emplace_back("about", Value::Object(About(values_.utterance(subject.about))));
    const char* name = node_.kind == NodeKind::kJudge ? "candidate" : "subject";
    entries->emplace_back(name, Value::Object(std::move(candidate)));
    return;
  }
  const NodeState& state = values_.node(node_.index);
  std::vector<Value> candidates;
  for (const int32_t subject : state.compared[static_cast<size_t>(slot.compared)]) {
    Entries candidate = About(values_.utterance(state.judged[static_cast<size_t>(subject)]));
    candidate.emplace_back("number", Value::Int(static_cast<int64_t>(candidates.size()) + 1));
    candidates.push_back(Value::Object(std::move(candidate)));
  }
  entries->emplace_back("candidates", Value::List(std::move(candidates)));
}

// The conversation that ended with the utterance.
void PromptBuilder::Converse(const Utterance& utterance, Prompt* prompt) {
  if (utterance.prompt != nullptr) prompt->messages = utterance.prompt->messages;
  AddTurn("assistant", utterance.text, prompt);
}

void Seal(Prompt* prompt) {
  Sha256 hash;
  prompt->bytes = 0;
  for (const deliberation::v1::PromptMessage& message : prompt->messages) {
    hash.Update(message.role());
    hash.Update(std::string_view("\0", 1));
    hash.Update(message.content());
    hash.Update(std::string_view("\0", 1));
    prompt->bytes += static_cast<int64_t>(message.content().size());
  }
  prompt->sha256 = hash.HexDigest();
}

absl::StatusOr<std::shared_ptr<const Prompt>> PromptBuilder::Build(const Slot& slot) {
  const Key key = {node_.prompt_differs_by_member ? slot.member : -1, node_.prompt_differs_by_sample ? slot.sample : -1,
                   slot.subject};
  if (last_ != nullptr && key == last_key_) return last_;
  const CompiledRole& role = *node_.role;
  Entries entries = variables_.InputsAt(node_.index);
  entries.emplace_back("round", Value::Int(variables_.RoundAt(node_.index)));
  if (Reads(role, "member")) {
    const std::string& name = spec_.members[static_cast<size_t>(slot.member)].name;
    entries.emplace_back("member", Value::Object({{"name", Value::String(name)}}));
  }
  entries.emplace_back("sample", Value::Int(slot.sample));
  const bool reads_seen = Reads(role, "seen");
  std::vector<Value> seen;
  for (size_t i = 0; i < node_.sees.size(); ++i) {
    const std::string by_name = "seen_" + node_.sees[i].name;
    const bool reads_name = Reads(role, by_name);
    if (!reads_seen && !reads_name) continue;
    Value utterances = Seen(i, slot);
    seen.push_back(Value::Object({{"node", Value::String(node_.sees[i].name)}, {"utterances", utterances}}));
    if (!reads_name) continue;
    const auto earlier =
        std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.first == by_name; });
    if (earlier == entries.end()) {
      entries.emplace_back(by_name, std::move(utterances));
    } else {
      std::vector<Value> both = earlier->second.AsSequence().items;
      const std::vector<Value>& more = utterances.AsSequence().items;
      both.insert(both.end(), more.begin(), more.end());
      earlier->second = Value::List(std::move(both));
    }
  }
  if (reads_seen) entries.emplace_back("seen", Value::List(std::move(seen)));
  if (slot.subject >= 0) AddCandidates(slot, &entries);
  const Value context = Value::Object(std::move(entries));

  auto prompt = std::make_shared<Prompt>();
  prompt->messages.reserve(static_cast<size_t>(role.proto.examples_size()) + 2);
  if (node_.follow) {
    Converse(Subject(slot), prompt.get());
  } else if (role.system.has_value()) {
    RETURN_IF_ERROR(AddMessage("system", "system", *role.system, context, prompt.get()));
  }
  for (const deliberation::v1::Turn& turn : role.proto.examples()) AddTurn(turn.role(), turn.content(), prompt.get());
  RETURN_IF_ERROR(AddMessage("user", "task", *role.task, context, prompt.get()));
  Seal(prompt.get());
  last_key_ = key;
  last_ = std::move(prompt);
  return last_;
}

}  // namespace conclave::orchestrator
