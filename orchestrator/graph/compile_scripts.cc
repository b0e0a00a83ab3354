// SPDX-License-Identifier: Apache-2.0
// Third step: expressions and prompts, parsed, and every name in them looked up.
#include <algorithm>

#include "common/status.h"
#include "orchestrator/graph/graph_compiler.h"
#include "orchestrator/graph/limits.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

const std::set<std::string>& VotesAttributes() {
  static const std::set<std::string> names = {"count", "distinct", "margin", "sure", "top", "total"};
  return names;
}

std::vector<std::string> Keys(const std::map<std::string, std::set<std::string>>& names) {
  std::vector<std::string> keys;
  keys.reserve(names.size());
  for (const auto& [key, attributes] : names) keys.push_back(key);
  return keys;
}

}  // namespace

// The judges and checks inside `root`, itself included.
void GraphCompiler::AddAssessors(int32_t root, Known* known) {
  // Nodes are numbered so that what a node contains follows it directly.
  for (int32_t i = root; i < static_cast<int32_t>(graph_->nodes_.size()); ++i) {
    bool inside = i == root;
    for (int32_t up = node(i).parent; up != kNoNode && !inside; up = node(up).parent) inside = up == root;
    if (!inside) break;
    if (node(i).scope != node(root).scope) continue;  // what a called graph holds is its own
    if (node(i).kind == NodeKind::kJudge) {
      known->names[node(i).name] = {"judgements", "mean_score"};
      if (!node(i).compares()) known->names[node(i).name].insert({"accepted", "fails", "passes"});
    }
    if (HoldsUtterances(i)) known->counts[node(i).name] = i;
    if (node(i).each != kNoNode) known->assessors[node(i).name] = i;
    const bool labels = node(i).role != nullptr && node(i).role->contract == ContractKind::kLabel;
    if (labels) known->names[node(i).name] = {"label"}, known->assessors[node(i).name] = i;
    if (node(i).kind == NodeKind::kSpeak && node(i).role != nullptr && node(i).role->proto.has_json()) {
      known->names[node(i).name].insert("fields"), known->assessors[node(i).name] = i;
    }
    if (node(i).kind == NodeKind::kCheck) known->names[node(i).name] = {"passed"};
    if (!HoldsUtterances(i)) known->assessors[node(i).name] = i;
  }
}

GraphCompiler::Known GraphCompiler::KnownTo(int32_t index) {
  Known known;
  known.names["round"] = {};
  for (int32_t ancestor = index; ancestor != node(index).scope; ancestor = node(ancestor).parent) {
    for (const int32_t sibling : sequence(node(ancestor).sequence).nodes) {
      if (sibling != ancestor) AddAssessors(sibling, &known);
      const bool before = source(sibling).position < source(ancestor).position;
      if (before && HoldsUtterances(sibling)) {
        // The last one before, of the innermost sequence that has one.
        const bool nearer = known.votes_of == kNoNode || node(known.votes_of).sequence == node(sibling).sequence;
        if (nearer) known.votes_of = sibling;
      }
    }
    const int32_t owner = node(ancestor).parent;
    if (known.votes_of == kNoNode && owner != kNoNode && node(owner).kind == NodeKind::kLoop) known.votes_of = owner;
  }
  if (known.votes_of != kNoNode) known.names["votes"] = VotesAttributes();
  return known;
}

void GraphCompiler::CheckReads(int32_t index, std::string_view field, int line, const Expression& expression,
                               const Known& known) {
  for (const std::string& path : expression.paths()) {
    const size_t dot = path.find('.');
    const std::string head = path.substr(0, dot);
    if (const auto counted = known.counts.find(head); counted != known.counts.end() && path == head + ".count") {
      WaitFor(index, counted->second);
      continue;
    }
    const auto found = known.names.find(head);
    if (found == known.names.end()) {
      Report(index, line, "{} reads \"{}\"; known names here: {}", field, path, fmt::join(Keys(known.names), ", "));
      continue;
    }
    const std::set<std::string>& attributes = found->second;
    const std::string rest = dot == std::string::npos ? "" : path.substr(dot + 1);
    const bool inside = attributes.contains("fields") && rest.starts_with("fields.");  // whatever the member wrote
    if (attributes.empty() ? !rest.empty() : !attributes.contains(rest) && !inside) {
      if (attributes.empty()) {
        Report(index, line, "{} reads \"{}\"; {} is a value without parts", field, path, head);
      } else {
        Report(index, line, "{} reads \"{}\"; {} has: {}", field, path, head, fmt::join(attributes, ", "));
      }
      continue;
    }
    const auto assessor = known.assessors.find(head);
    const int32_t target = head == "votes"                     ? known.votes_of
                           : assessor == known.assessors.end() ? kNoNode
                                                               : assessor->second;
    if (target == kNoNode) continue;
    WaitFor(index, target);
    if (rest.starts_with("valid")) CheckJudgesOf(index, field, line, target);
  }
}

// Waits for the node, or for what it is inside of, in the sequence that both share.
void GraphCompiler::WaitFor(int32_t index, int32_t target) {
  source(index).uses.insert(target);
  for (int32_t ancestor = index; ancestor != kNoNode; ancestor = node(ancestor).parent) {
    for (int32_t up = target; up != kNoNode; up = node(up).parent) {
      if (up != ancestor && node(up).sequence == node(ancestor).sequence) Link(ancestor, up, index);
    }
  }
}

// Which judgements are valid is known when they have been judged themselves.
void GraphCompiler::CheckJudgesOf(int32_t index, std::string_view field, int line, int32_t judge) {
  bool judged = false;
  for (int32_t i = 0; i < static_cast<int32_t>(graph_->nodes_.size()); ++i) {
    if (node(i).kind != NodeKind::kJudge || node(i).of != judge) continue;
    judged = true;
    WaitFor(index, i);
  }
  if (!judged) {
    const std::string& name = node(judge).name;
    Report(index, line,
           "{} asks which judgements of \"{}\" are valid, and nobody judges them; add a judge with of: \"{}\"", field,
           name, name);
  }
}

void GraphCompiler::CompileExpression(int32_t index, std::string_view field, int line, const std::string& text,
                                      const Known& known, std::optional<Expression>* out) {
  if (text.size() > kExpressionBytesMax) {
    Report(index, line, "{} has {} characters, at most {} allowed", field, text.size(), kExpressionBytesMax);
    return;
  }
  absl::StatusOr<Expression> parsed = Expression::Parse(text);
  if (!parsed.ok()) {
    Report(index, line, "{} \"{}\": {}", field, text, Message(parsed.status()));
    return;
  }
  CheckReads(index, field, line, *parsed, known);
  *out = *std::move(parsed);
}

void GraphCompiler::CompileWhen(int32_t index) {
  const pb::Node& proto = *source(index).proto;
  if (proto.when().empty()) return;
  Known known = KnownTo(index);
  for (const pb::Input& input : ProtoAround(index).input()) known.names["inputs"].insert(input.name());
  CompileExpression(index, "when", source(index).lines.LineOf(proto, "when"), proto.when(), known, &node(index).when);
  if (node(index).when.has_value()) node(index).votes_of = known.votes_of;
}

void GraphCompiler::CompileOwn(int32_t index) {
  const pb::Node& proto = *source(index).proto;
  const FieldLines kind = source(index).kind;
  Known known = KnownTo(index);
  if (proto.has_loop() && !proto.loop().until().empty()) {
    // A loop counts its own answers when it decides to end; `when` has been asked before it began.
    if (node(index).body >= 0) {
      for (const int32_t member : sequence(node(index).body).nodes) AddAssessors(member, &known);
    }
    known.votes_of = index;
    known.names["votes"] = VotesAttributes();
    known.names["votes"].insert("unchanged");
    CompileExpression(index, "until", kind.LineOf(proto.loop(), "until"), proto.loop().until(), known,
                      &node(index).expression);
    if (const auto& until = node(index).expression; until.has_value()) {
      const std::vector<std::string>& paths = until->paths();
      node(index).counts_unchanged = std::find(paths.begin(), paths.end(), "votes.unchanged") != paths.end();
    }
  }
  if (proto.has_branch() && !proto.branch().condition().empty()) {
    for (const pb::Input& input : ProtoAround(index).input()) known.names["inputs"].insert(input.name());
    node(index).votes_of = known.votes_of;
    CompileExpression(index, "condition", kind.LineOf(proto.branch(), "condition"), proto.branch().condition(), known,
                      &node(index).expression);
  }
  if (proto.has_pick() || proto.has_judge() || !proto.speak().worth().empty()) CompileChoice(index, std::move(known));
  if (proto.has_check() && !proto.check().expected().empty()) {
    const int line = kind.LineOf(proto.check(), "expected");
    absl::StatusOr<PromptTemplate> parsed = PromptTemplate::Parse(proto.check().expected());
    if (!parsed.ok()) {
      Report(index, line, "expected: {}", Message(parsed.status()));
      return;
    }
    for (const std::string& name : parsed->names()) {
      if (name != "inputs" && name != "round") {
        Report(index, line, "expected reads \"{}\"; known names here: inputs, round", name);
      }
    }
    node(index).expected = *std::move(parsed);
  }
}

// `weight` of a pick, `worth` of a speak, `where` of a pick or judge: about one utterance.
void GraphCompiler::CompileChoice(int32_t index, Known known) {
  const pb::Node& proto = *source(index).proto;
  const FieldLines& kind = source(index).kind;
  known.names.erase("votes");
  known.counts.clear();
  for (const auto& [name, assessor] : known.assessors) {
    const CompiledNode& said = node(assessor);
    if (said.kind == NodeKind::kSpeak) known.names.erase(name);  // a label is of a node
    if (said.each != kNoNode) known.names[name] = {"made"};
    if (said.kind != NodeKind::kJudge) continue;
    known.names[name] = said.compares()
                            ? std::set<std::string>{"mean_score", "shown", "wins"}
                            : std::set<std::string>{"accepts", "lowest", "mean_score", "open",  "proved",
                                                    "ready",   "tried",  "rejects",    "valid", "valid_at_lowest"};
  }
  known.names["member"] = {"name", "weight"};
  for (const char* value : {"confidence", "text_length"}) known.names[value] = {};
  const bool traced = std::any_of(graph_->nodes_.begin(), graph_->nodes_.end(),
                                  [](const CompiledNode& other) { return other.confidence_window > 0; });
  if (traced) {
    known.names["likelihood"] = {};
    known.names["token_confidence"] = {"bottom", "lowest", "mean", "tail"};
  }
  if (proto.has_judge()) {
    known.names["own_score"] = {};
    if (proto.judge().where().empty()) return;
    return CompileExpression(index, "where", kind.LineOf(proto.judge(), "where"), proto.judge().where(), known,
                             &node(index).where);
  }
  if (proto.has_speak()) {
    return CompileExpression(index, "worth", kind.LineOf(proto.speak(), "worth"), proto.speak().worth(), known,
                             &node(index).expression);
  }
  const pb::Pick& pick = proto.pick();
  if (!pick.weight().empty()) {
    CompileExpression(index, "weight", kind.LineOf(pick, "weight"), pick.weight(), known, &node(index).expression);
  }
  if (!pick.where().empty()) {
    CompileExpression(index, "where", kind.LineOf(pick, "where"), pick.where(), known, &node(index).where);
  }
}

void GraphCompiler::CheckPrompts(int32_t index) {
  CompiledNode& at = node(index);
  if (at.role == nullptr) return;
  std::set<std::string> known = {"round", "member", "sample", "seen"};
  for (const pb::Input& input : ProtoAround(index).input()) known.insert(input.name());
  for (const CompiledSees& sees : at.sees) {
    known.insert("seen_" + sees.name);
    at.prompt_differs_by_member |= sees.DiffersByReader();
    at.prompt_differs_by_sample |= sees.shuffle || (sees.by_sample && sees.DiffersByReader());
  }
  if (at.kind == NodeKind::kJudge) known.insert(at.compares() ? "candidates" : "candidate");
  if (at.kind == NodeKind::kSpeak) known.insert("subject");  // undefined without each
  at.prompt_differs_by_member |= at.follow;
  at.prompt_differs_by_member |= at.compares();
  at.prompt_differs_by_sample |= at.compares();
  const pb::Node& proto = *source(index).proto;
  const FieldLines& kind = source(index).kind;
  const int line = proto.has_speak() ? kind.LineOf(proto.speak(), "role") : kind.LineOf(proto.judge(), "role");
  for (const auto& [field, prompt] : {std::pair("system", &at.role->system), {"task", &at.role->task}}) {
    if (!prompt->has_value()) continue;
    at.prompt_differs_by_member |= (*prompt)->Reads("member");
    at.prompt_differs_by_sample |= (*prompt)->Reads("sample");
    for (const std::string& name : (*prompt)->names()) {
      if (known.contains(name)) continue;
      if (name.starts_with("seen_") && Resolve(index, name.substr(5), line, "the role") != kNoNode) {
        Report(index, line, "role \"{}\" reads \"{}\" in its {}; add sees {{ node: \"{}\" }}", at.role->proto.name(),
               name, field, name.substr(5));
      } else if (!name.starts_with("seen_")) {
        Report(index, line, "role \"{}\" reads \"{}\" in its {}; known names here: {}", at.role->proto.name(), name,
               field, fmt::join(known, ", "));
      }
    }
  }
}

void GraphCompiler::CompileScripts() {
  for (int32_t i = 0; i < static_cast<int32_t>(graph_->nodes_.size()); ++i) {
    CompileWhen(i);
    CompileOwn(i);
    CheckPrompts(i);
  }
}

}  // namespace conclave::orchestrator
