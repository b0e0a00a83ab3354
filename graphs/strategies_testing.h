// SPDX-License-Identifier: Apache-2.0
// Shipped graphs driven by scripted members.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/machine_testing.h"

namespace conclave::orchestrator {

// A shipped graph with the shipped roles.
inline std::shared_ptr<const CompiledGraph> Shipped(const std::string& name) {
  const std::string graphs = CONCLAVE_SOURCE_DIR "/graphs";
  RoleLibrary roles;
  const absl::Status read = roles.AddDirectory(graphs + "/roles");
  EXPECT_TRUE(read.ok()) << Message(read);
  const std::string path = graphs + "/" + name + ".textproto";
  const auto text = ReadFile(path);
  EXPECT_TRUE(text.ok()) << path;
  CompileResult result = CompileGraphText(*text, path, roles, GraphsIn({graphs}));
  for (const std::string& error : result.errors) ADD_FAILURE() << error;
  return result.graph;
}

inline Reply Say(std::string text) { return {Reply::Kind::kText, std::move(text), 10, 0.5}; }
inline Reply Lost() { return {Reply::Kind::kLoseForGood, "", 3, 0}; }

// A script: what is said at "path member" or "path member sample" (the longer name counts), e.g.
// {"draft m1", "#### 4"}. "lost" loses the call for good. A call without a line is a failure of the test.
using Script = std::map<std::string, std::string>;

inline Reply FromScript(const Script& script, const CallSpec& call) {
  const std::string name = call.node_path + " " + call.key.member();
  for (const std::string& key : {fmt::format("{} {}/{}", name, call.key.sample(), call.key.subject()),
                                 fmt::format("{} {}", name, call.key.sample()), name}) {
    const auto line = script.find(key);
    if (line == script.end()) continue;
    return line->second == "lost" ? Lost() : Say(line->second);
  }
  ADD_FAILURE() << "nobody told " << name << " (sample " << call.key.sample() << ", subject " << call.key.subject()
                << ") what to say";
  return Say("");
}

inline RunLog Play(const std::string& graph, const std::vector<std::string>& members, const Script& script,
                   uint64_t arrival_seed = 0) {
  const auto compiled = Shipped(graph);
  return Drive(compiled, SpecFor(*compiled, members), [&](const CallSpec& call) { return FromScript(script, call); },
               {.arrival_seed = arrival_seed, .cancel_after = -1, .expire_after = -1});
}

// The last message that a member got at a node.
inline std::string PromptOf(const RunLog& log, std::string_view path, std::string_view member, int sample = 0) {
  for (const auto* call : log.calls_of(path)) {
    if (call->key().member() == member && call->key().sample() == sample) {
      return call->prompt(call->prompt_size() - 1).content();
    }
  }
  ADD_FAILURE() << "no call of " << member << " at " << path;
  return "";
}

}  // namespace conclave::orchestrator
