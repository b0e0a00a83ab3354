// SPDX-License-Identifier: Apache-2.0
// Second step: what refers to what.
//
// Scopes. A name means, in this order: a node of the same sequence; the loop around, by its own name or by the name of
// its `over` (its current utterances); then the same one sequence further out, up to the call around. Inside a loop's
// body a node that stands later than its reader, or is the reader, means the round before; anywhere else the reader
// waits for it.
#include <algorithm>

#include "orchestrator/graph/graph_compiler.h"
#include "orchestrator/graph/limits.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

bool IsAssessor(NodeKind kind) { return kind == NodeKind::kJudge || kind == NodeKind::kCheck; }

}  // namespace

bool GraphCompiler::HoldsUtterances(int32_t index) { return !IsAssessor(node(index).kind); }

bool GraphCompiler::InLoopBody(int32_t in) {
  const int32_t owner = sequence(in).owner;
  return owner != kNoNode && node(owner).kind == NodeKind::kLoop;
}

void GraphCompiler::Link(int32_t ancestor, int32_t target, int32_t reader) {
  source(reader).uses.insert(target);
  const bool later = source(target).position >= source(ancestor).position;
  const bool round_before = later && InLoopBody(node(ancestor).sequence);
  if (round_before && target == ancestor) return;
  // Who is read for its round before must not begin this round before it has been read.
  std::vector<int32_t>& after = node(round_before ? target : ancestor).after;
  const int32_t before = round_before ? ancestor : target;
  if (std::find(after.begin(), after.end(), before) == after.end()) after.push_back(before);
}

int32_t GraphCompiler::Resolve(int32_t reader, std::string_view name, int line, std::string_view field) {
  if (name.empty()) {
    Report(reader, line, "{} is missing; name a node", field);
    return kNoNode;
  }
  for (int32_t ancestor = reader;;) {
    const NodeSequence& siblings = sequence(node(ancestor).sequence);
    for (const int32_t target : siblings.nodes) {
      if (node(target).name != name) continue;
      if (target == ancestor && (target != reader || !InLoopBody(node(ancestor).sequence))) {
        Report(reader, line, "{} names {}; name an earlier node", field,
               target == reader ? "the node itself" : fmt::format("\"{}\", which it is part of", name));
        return kNoNode;
      }
      Link(ancestor, target, reader);
      return target;
    }
    const int32_t owner = siblings.owner;
    if (owner == node(reader).scope) break;  // a called graph knows nothing around it
    if (node(owner).kind == NodeKind::kLoop &&
        (node(owner).name == name || source(owner).proto->loop().over() == name)) {
      source(reader).uses.insert(owner);
      return owner;
    }
    ancestor = owner;
  }
  ReportUnknown(reader, name, line, field);
  return kNoNode;
}

void GraphCompiler::ReportUnknown(int32_t reader, std::string_view name, int line, std::string_view field) {
  for (const CompiledNode& other : graph_->nodes_) {
    if (other.name != name || other.scope != node(reader).scope) continue;
    const CompiledNode& around = node(other.parent);
    Report(reader, line, "{} names \"{}\", which is inside {} \"{}\"; name \"{}\"", field, name,
           NodeKindName(around.kind), around.name, around.name);
    return;
  }
  std::vector<std::string> known;
  for (int32_t ancestor = reader; ancestor != node(reader).scope; ancestor = node(ancestor).parent) {
    for (const int32_t sibling : sequence(node(ancestor).sequence).nodes) {
      if (sibling != ancestor) known.push_back(node(sibling).name);
    }
    const int32_t owner = node(ancestor).parent;
    if (owner != kNoNode && node(owner).kind == NodeKind::kLoop) known.push_back(source(owner).proto->loop().over());
  }
  std::erase(known, "");
  Report(reader, line, "{} names \"{}\", which is no node{}", field, name, Suggest(name, known, "known nodes here"));
}

int32_t GraphCompiler::ResolveUtterances(int32_t reader, std::string_view name, int line, std::string_view field) {
  const int32_t target = Resolve(reader, name, line, field);
  if (target == kNoNode || HoldsUtterances(target)) return target;
  const CompiledNode& found = node(target);
  const pb::Node& proto = *source(target).proto;
  Report(reader, line, "{} names {} \"{}\", which holds no utterances of its own; name what it assessed: \"{}\"", field,
         NodeKindName(found.kind), name, proto.has_judge() ? proto.judge().of() : proto.check().of());
  return kNoNode;
}

int32_t GraphCompiler::ResolveSubjects(int32_t reader, std::string_view name, int line, std::string_view field) {
  const int32_t target = Resolve(reader, name, line, field);
  if (target == kNoNode || HoldsUtterances(target)) return target;
  if (node(target).kind == NodeKind::kJudge && !node(target).compares()) return target;
  return ResolveUtterances(reader, name, line, field);  // says why not
}

void GraphCompiler::ResolvePick(int32_t index) {
  const pb::Pick& pick = source(index).proto->pick();
  const FieldLines& kind = source(index).kind;
  node(index).of = ResolveUtterances(index, pick.of(), kind.LineOf(pick, "of"), "of");
  for (int a = 0; a < std::min(pick.also_size(), kAlsoMax); ++a) {
    node(index).also.push_back(ResolveUtterances(index, pick.also(a), kind.LineOf(pick, "also", a), "also"));
  }
}

void GraphCompiler::ResolveLoop(int32_t index) {
  const pb::Loop& loop = source(index).proto->loop();
  const FieldLines& kind = source(index).kind;
  if (!loop.over().empty()) node(index).over = ResolveUtterances(index, loop.over(), kind.LineOf(loop, "over"), "over");
  if (node(index).body < 0) return;
  for (const int32_t member : sequence(node(index).body).nodes) {
    if (loop.yields().empty() ? HoldsUtterances(member) : node(member).name == loop.yields()) {
      node(index).yields = member;
    }
  }
  if (node(index).yields == kNoNode && !loop.yields().empty()) {
    std::vector<std::string> names;
    for (const int32_t member : sequence(node(index).body).nodes) names.push_back(node(member).name);
    Report(index, kind.LineOf(loop, "yields"), "yields names \"{}\", which is no node of the body{}", loop.yields(),
           Suggest(loop.yields(), names, "the body has"));
  } else if (node(index).yields != kNoNode && !HoldsUtterances(node(index).yields)) {
    Report(index, kind.LineOf(loop, "yields"),
           "yields names {} \"{}\", which holds no utterances of its own; name a speak or pick",
           NodeKindName(node(node(index).yields).kind), loop.yields());
  }
}

void GraphCompiler::ResolveNames() {
  for (size_t i = 0; i < sources_.size(); ++i) {
    const auto index = static_cast<int32_t>(i);
    const pb::Node& proto = *sources_[i].proto;
    const FieldLines kind = sources_[i].kind;
    for (size_t s = 0; s < node(index).sees.size(); ++s) {
      const int line = proto.has_speak() ? kind.LineOf(proto.speak(), "sees", static_cast<int>(s))
                                         : kind.LineOf(proto.judge(), "sees", static_cast<int>(s));
      const std::string name = node(index).sees[s].name;
      const int32_t seen = node(index).sees[s].node = Resolve(index, name, line, "sees");
      const int32_t memory = node(index).sees[s].memory;
      if (seen != kNoNode && memory > 1) node(seen).memory = std::max(node(seen).memory, memory);
      const bool about = proto.has_speak() ? !proto.speak().each().empty() : !node(index).compares();
      if (node(index).sees[s].of_subject && !about) {
        Report(index, line, "sees asks for what is of_subject, and no call here is about one utterance; remove it{}",
               proto.has_speak() ? ", or add each" : "");
      }
    }
    if (proto.has_speak() && !proto.speak().each().empty()) {
      node(index).each = ResolveSubjects(index, proto.speak().each(), kind.LineOf(proto.speak(), "each"), "each");
    }
    if (proto.has_judge()) {
      const pb::Judge& judge = proto.judge();
      const int line = kind.LineOf(judge, "of");
      node(index).of = node(index).compares() ? ResolveUtterances(index, judge.of(), line, "of")
                                              : ResolveSubjects(index, judge.of(), line, "of");
    }
    if (proto.has_pick()) ResolvePick(index);
    if (proto.has_check())
      node(index).of = ResolveUtterances(index, proto.check().of(), kind.LineOf(proto.check(), "of"), "of");
    if (proto.has_loop()) ResolveLoop(index);
    if (proto.has_call()) ResolveCall(index);
    if (proto.has_branch() && !proto.branch().otherwise_value().empty()) {
      node(index).otherwise_value = ResolveUtterances(
          index, proto.branch().otherwise_value(), kind.LineOf(proto.branch(), "otherwise_value"), "otherwise_value");
    }
  }
  WaitForAssessors();
  ResolveResult();
}

bool GraphCompiler::Reaches(int32_t from, int32_t to) {
  std::vector<int32_t> open = {from};
  std::set<int32_t> seen;
  while (!open.empty()) {
    const int32_t at = open.back();
    open.pop_back();
    if (at == to) return true;
    if (!seen.insert(at).second) continue;
    open.insert(open.end(), node(at).after.begin(), node(at).after.end());
  }
  return false;
}

// Whoever reads utterances that an earlier node of the same sequence assesses waits for the assessment: scores decide
// what `limit` keeps, and are shown.
void GraphCompiler::WaitForAssessors() {
  for (const CompiledNode& assessor : graph_->nodes_) {
    if (!IsAssessor(assessor.kind) || assessor.of == kNoNode) continue;
    for (const int32_t reader : sequence(assessor.sequence).nodes) {
      if (reader == assessor.index) continue;
      const CompiledNode& at = node(reader);
      bool sees = false, scores = at.role != nullptr && at.role->proto.task().find("score") != std::string::npos;
      for (const CompiledSees& edge : at.sees) {
        if (edge.node != assessor.of) continue;
        sees = true;
        scores = scores || edge.limit > 0 || edge.lowest || edge.part == pb::Sees::SCORE;
      }
      if (source(reader).position <= source(assessor.index).position) {
        // Whether a reader that shows scores comes before the assessment or after must not depend on who is faster.
        if (sees && scores && !Reaches(reader, assessor.index)) node(assessor.index).after.push_back(reader);
        continue;
      }
      if (sees) source(reader).uses.insert(assessor.index);
      const bool picks =
          at.kind == NodeKind::kPick &&
          (at.of == assessor.of || std::find(at.also.begin(), at.also.end(), assessor.of) != at.also.end());
      const bool reads = sees || picks || at.over == assessor.of || at.each == assessor.of;
      if (reads && !Reaches(assessor.index, reader)) node(reader).after.push_back(assessor.index);
    }
  }
}

int32_t GraphCompiler::FindResult(int32_t in, const std::string& name, std::string* why) {
  const std::vector<int32_t>& top = sequence(in).nodes;
  int32_t found = name.empty() && !top.empty() ? top.back() : kNoNode;
  std::vector<std::string> names;
  for (const int32_t index : top) {
    names.push_back(node(index).name);
    if (!name.empty() && node(index).name == name) found = index;
  }
  if (found == kNoNode) {
    *why = fmt::format("result names \"{}\", which is no node at the top of the graph{}", name,
                       Suggest(name, names, "nodes are"));
  } else if (!HoldsUtterances(found)) {
    *why = fmt::format("the result is {} \"{}\", which holds no utterances; name a speak, pick, loop, branch or call",
                       NodeKindName(node(found).kind), node(found).name);
  }
  return found;
}

void GraphCompiler::ResolveResult() {
  if (graph_->sequences_.empty() || sequence(0).nodes.empty()) return;
  std::string why;
  graph_->result_ = FindResult(0, proto().result(), &why);
  if (!why.empty()) errors_.Add(lines_.LineOf(proto(), "result"), std::move(why));
}

}  // namespace conclave::orchestrator
