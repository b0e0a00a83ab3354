// SPDX-License-Identifier: Apache-2.0
#include "protos/textproto.h"

#include <gtest/gtest.h>

#include "conclave/deliberation/v1/graph.pb.h"

namespace conclave {
namespace {

using deliberation::v1::Graph;

TEST(Textproto, KnowsTheLineOfEveryField) {
  Graph graph;
  const ParsedText parsed = ParseTextproto(
      "# a comment\nname: \"g\"\nnode {\n  name: \"a\"\n}\nnode {\n  loop {\n    until: \"x\"\n  } }\n", &graph);
  ASSERT_TRUE(parsed.errors.empty());
  const FieldLines lines = parsed.lines();
  EXPECT_EQ(lines.LineOf(graph, "name"), 2);
  EXPECT_EQ(lines.LineOf(graph, "node", 0), 3);
  EXPECT_EQ(lines.LineOf(graph, "node", 1), 6);
  EXPECT_EQ(lines.LineOf(graph, "result"), 1) << "absent: the line of its message";
  const FieldLines node = lines.In(graph, "node", 1);
  EXPECT_EQ(node.line(), 6);
  const FieldLines loop = node.In(graph.node(1), "loop");
  EXPECT_EQ(loop.line(), 7);
  EXPECT_EQ(loop.LineOf(graph.node(1).loop(), "until"), 8);
  EXPECT_EQ(FieldLines().In(graph, "node", 0).LineOf(graph.node(0), "name"), 0) << "no text, no lines";
}

TEST(Textproto, UnknownFieldsAreErrorsWithAHint) {
  Graph graph;
  ParsedText parsed = ParseTextproto("name: \"g\"\nnode { loop {\n untill: \"x\" } }", &graph);
  ASSERT_EQ(parsed.errors.size(), 1u);
  EXPECT_EQ(parsed.errors[0].line, 3);
  EXPECT_EQ(parsed.errors[0].message, "Loop has no field \"untill\"; did you mean \"until\"?");
  graph.Clear();
  parsed = ParseTextproto("zzzzzz: 1", &graph);
  ASSERT_EQ(parsed.errors.size(), 1u);
  EXPECT_EQ(parsed.errors[0].message,
            "Graph has no field \"zzzzzz\"; it has: budget, description, equivalence, input, name, needs_seeds, node, "
            "result");
}

std::string Nested(int depth) {
  std::string text = "node{";  // Graph.node, then Node.loop, Loop.body, Node.loop, ..
  for (int i = 1; i < depth; ++i) text += i % 2 == 1 ? "loop{" : "body{";
  return text + std::string(static_cast<size_t>(depth), '}');
}

TEST(Textproto, IsBounded) {
  Graph graph;
  EXPECT_TRUE(ParseTextproto(Nested(kTextprotoDepthMax), &graph).errors.empty());
  EXPECT_FALSE(ParseTextproto(Nested(kTextprotoDepthMax + 1), &graph).errors.empty());
  graph.Clear();
  EXPECT_TRUE(ParseTextproto(std::string(kTextprotoBytesMax, ' '), &graph).errors.empty());
  EXPECT_EQ(ParseTextproto(std::string(kTextprotoBytesMax + 1, ' '), &graph).errors.size(), 1u);
}

TEST(Textproto, NearestName) {
  const std::vector<std::string> names = {"round", "verify", "votes"};
  EXPECT_EQ(Nearest("votez", names), "votes");
  EXPECT_EQ(Nearest("rounds", names), "round");
  EXPECT_EQ(Nearest("verfiy", names), "verify");
  EXPECT_EQ(Nearest("x", names), "");
  EXPECT_EQ(Nearest("margin", names), "");
  EXPECT_EQ(Nearest("", names), "");
}

}  // namespace
}  // namespace conclave
