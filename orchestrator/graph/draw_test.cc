// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/draw.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/drawing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const CompiledGraph> Shipped(const std::string& name) {
  RoleLibrary roles;
  EXPECT_OK(roles.AddDirectory(CONCLAVE_SOURCE_DIR "/graphs/roles"));
  const auto text = ReadFile(CONCLAVE_SOURCE_DIR "/graphs/" + name + ".textproto");
  EXPECT_OK(text);
  return CompileGraphText(*text, name, roles).graph;
}

TEST(Draw, LinesOfTheCouncil) {
  const auto graph = Shipped("council");
  const auto has = [&](std::string_view from, std::string_view to, LineKind kind) {
    for (const DrawnLine& line : LinesOf(*graph)) {
      if (graph->node(line.from).name == from && graph->node(line.to).name == to && line.kind == kind) return true;
    }
    return false;
  };
  EXPECT_TRUE(has("plan", "draft", LineKind::kSees));
  EXPECT_TRUE(has("draft", "review", LineKind::kValue));
  EXPECT_TRUE(has("review", "critique", LineKind::kSees)) << "the loop's current utterances";
  EXPECT_TRUE(has("critique", "revise", LineKind::kSees));
  EXPECT_TRUE(has("revise", "verify", LineKind::kValue));
  EXPECT_TRUE(has("revise", "review", LineKind::kNextRound));
  EXPECT_TRUE(has("review", "verdict", LineKind::kValue));
}

TEST(Draw, EveryFormNamesEveryNode) {
  for (const char* name : {"single", "vote", "weighted_vote", "best_of_n", "council", "reflect"}) {
    const auto graph = Shipped(name);
    ASSERT_NE(graph, nullptr);
    for (const std::string& picture : {DrawDot(*graph), DrawMermaid(*graph), DrawSvg(*graph)}) {
      for (const CompiledNode& node : graph->nodes()) EXPECT_THAT(picture, HasSubstr(node.name));
    }
  }
}

TEST(Draw, TextOfTheAuthorIsEscaped) {
  RoleLibrary roles;
  EXPECT_OK(roles.AddDirectory(CONCLAVE_SOURCE_DIR "/graphs/roles"));
  const auto graph = CompileGraphText(
                         "name: \"g\" description: \"<b>&\" input { name: \"question\" }\n"
                         "node { name: \"a\" speak { role: \"solver\" members: \"x\\\"<y>&z\" } }",
                         "g", roles)
                         .graph;
  ASSERT_NE(graph, nullptr);
  EXPECT_THAT(DrawSvg(*graph), HasSubstr("x&quot;&lt;y&gt;&amp;z"));
  EXPECT_THAT(DrawSvg(*graph), HasSubstr("&lt;b&gt;&amp;"));
  EXPECT_THAT(DrawDot(*graph), HasSubstr("x\\\"<y>&z"));
}

TEST(Draw, ShortenNeverCutsACharacter) {
  EXPECT_EQ(Shorten("abcdef", 6), "abcdef");
  EXPECT_EQ(Shorten("abcdefg", 6), "abcd..");
  EXPECT_EQ(Shorten("abc\u00e9efg", 6), "abc..");
}

}  // namespace
}  // namespace conclave::orchestrator
