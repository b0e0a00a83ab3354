// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/jinja.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/jinja/json.h"
#include "common/status.h"

namespace conclave::jinja {
namespace {

using Json = nlohmann::ordered_json;

std::string RenderOrError(const std::string& source, const Value& context, int64_t now = 0) {
  const auto parsed = Template::Parse(source);
  if (!parsed.ok()) return "!" + std::string(Message(parsed.status()));
  const auto rendered = parsed->Render(context, {.now_unix_seconds = now, .limits = {}});
  return rendered.ok() ? rendered->text : "!" + std::string(Message(rendered.status()));
}

std::string Render(const std::string& source, const Json& context = Json::object()) {
  const auto value = FromJson(context, Author::kProgram);
  return value.ok() ? RenderOrError(source, *value) : "!" + std::string(Message(value.status()));
}

// About a thousand templates over one context, each with what Python's jinja2 3.1.6 (CPython 3.11) rendered or raised
// in the environment jinja.h names.
TEST(Jinja, AgreesWithPython) {
  std::ifstream in(std::string(CONCLAVE_SOURCE_DIR) + "/common/jinja/testdata/python_cases.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  const Json head = Json::parse(line);
  const auto context = FromJson(head["context"], Author::kProgram);
  ASSERT_TRUE(context.ok());
  size_t count = 0;
  for (; std::getline(in, line); ++count) {
    const Json expected = Json::parse(line);
    const std::string source = expected["template"];
    std::string actual = RenderOrError(source, *context, head["now"]);
    if (expected.contains("error")) {
      ASSERT_TRUE(actual.starts_with("!")) << source << "\nrendered " << actual;
      EXPECT_EQ(actual.substr(1, actual.rfind(" (line ") - 1), expected["error"].get<std::string>()) << source;
    } else {
      EXPECT_EQ(actual, expected["expected"].get<std::string>()) << source;
    }
  }
  EXPECT_GE(count, 1000u);
}

TEST(Jinja, ErrorsNameTheirPlace) {
  EXPECT_EQ(Render("a\n  {{ x.y }}"), "!UndefinedError: 'x' is undefined (line 2, column 7)");
  EXPECT_EQ(Render("{% if %}"),
            "!TemplateSyntaxError: Expected an expression, got 'end of statement block' (line 1, column 7)");
  EXPECT_EQ(Render("héé {{ 'x' + 1 }}"),
            "!TypeError: can only concatenate str (not \"int\") to str (line 1, column 14)");
}

TEST(Jinja, ContextMustBeADict) {
  const auto parsed = Template::Parse("x");
  ASSERT_TRUE(parsed.ok());
  EXPECT_FALSE(parsed->Render(Value::List({})).ok());
  EXPECT_FALSE(parsed->Render(Value()).ok());
}

TEST(Jinja, EmptyTemplate) {
  const auto rendered = Template().Render(Value::Object({}));
  ASSERT_TRUE(rendered.ok());
  EXPECT_EQ(rendered->text, "");
}

TEST(Jinja, HostFunctions) {
  const Value add = Value::Function("add", [](std::span<const Value> arguments) -> absl::StatusOr<Value> {
    if (arguments.size() != 2) return InvalidArgument("TypeError: add takes 2 arguments");
    return Value::Int(arguments[0].AsInt() + arguments[1].AsInt());
  });
  const Value context = Value::Object({{"add", add}, {"x", Value::Int(40)}});
  EXPECT_EQ(RenderOrError("{{ add(x, 2) }}{{ add is callable }}", context), "42True");
  EXPECT_EQ(RenderOrError("{{ add(1) }}", context), "!TypeError: add takes 2 arguments (line 1, column 7)");
  EXPECT_EQ(RenderOrError("{{ add(a=1) }}", context),
            "!TypeError: add() takes no keyword arguments (line 1, column 7)");
}

TEST(Jinja, GenerationIsAPlainBlock) {
  EXPECT_EQ(Render("{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}"), "1False");
}

TEST(Jinja, WhitespaceOptions) {
  const std::string source = "  {% if true %}\nx\n  {% endif %}\ny\n";
  const auto plain =
      Template::Parse(source, {.trim_blocks = false, .lstrip_blocks = false, .keep_trailing_newline = true});
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->Render(Value::Object({}))->text, "  \nx\n  \ny\n");
  EXPECT_EQ(Render(source), "x\ny");
}

TEST(Jinja, FreePaths) {
  const auto paths = [](const char* source) { return Template::Parse(source)->FreePaths(); };
  using Paths = std::vector<std::string>;
  EXPECT_EQ(paths("{{ a.b.c }}{{ a['d'] }}{{ q.items() }}{{ a.list[0].x }}"), (Paths{"a.b.c", "a.d", "a.list", "q"}));
  EXPECT_EQ(paths("{% for m in messages if m.role %}{{ m.x }}{{ loop.index }}{% endfor %}{{ range(3) }}"),
            (Paths{"messages"}));
  EXPECT_EQ(paths("{% set x = y %}{{ x }}{% macro f(p) %}{{ p }}{{ z }}{{ caller() }}{% endmacro %}{{ f(w) }}"),
            (Paths{"w", "y", "z"}));
  EXPECT_EQ(paths("plain"), Paths{});
  const auto condition = Expression::Parse("verify.mean_score >= 0.6 or round >= limits['rounds'] | int");
  ASSERT_TRUE(condition.ok());
  EXPECT_EQ(condition->FreePaths(), (Paths{"limits.rounds", "round", "verify.mean_score"}));
}

TEST(Expression, Conditions) {
  const auto condition = Expression::Parse("votes.margin >= 0.6 or round >= 3");
  ASSERT_TRUE(condition.ok());
  const auto test = [&](double margin, int64_t round) {
    return *condition->Test(
        Value::Object({{"votes", Value::Object({{"margin", Value::Float(margin)}})}, {"round", Value::Int(round)}}));
  };
  EXPECT_TRUE(test(0.6, 1));
  EXPECT_FALSE(test(0.59, 2));
  EXPECT_TRUE(test(0, 3));
  EXPECT_FALSE(condition->Test(Value::Object({})).ok());
}

TEST(Expression, UndefinedIsNoTruth) {
  const auto condition = Expression::Parse("a.b");
  ASSERT_TRUE(condition.ok());
  const Value context = Value::Object({{"a", Value::Object({})}});
  EXPECT_TRUE(condition->Evaluate(context)->IsUndefined());
  EXPECT_EQ(Message(condition->Test(context).status()), "UndefinedError: 'dict object' has no attribute 'b'");
}

TEST(Expression, SyntaxErrors) {
  for (const char* source : {"", "a b", "a }}", "{{ a }}", "a,", "(", "1 +", "a.b.", "a[", "'x"}) {
    const auto parsed = Expression::Parse(source);
    ASSERT_FALSE(parsed.ok()) << source;
    EXPECT_TRUE(Message(parsed.status()).starts_with("TemplateSyntaxError: ")) << source;
  }
}

TEST(Json, RoundTrip) {
  const Json json = Json::parse(R"({"z":1,"a":[null,true,1.5,"é",{"k":[]}],"m":{}})");
  const auto value = FromJson(json, Author::kProgram);
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(ToJson(*value)->dump(), json.dump());
  EXPECT_FALSE(ToJson(Value()).ok());
  EXPECT_FALSE(FromJson(Json(UINT64_MAX), Author::kProgram).ok());
}

// Keys of many kinds, more than the linear search covers; Python's rules say which are one key.
TEST(Dict, FindsManyKeys) {
  std::string source = "{% set d = {";
  for (int i = 0; i < 200; ++i)
    source +=
        std::to_string(i) + ": 'n" + std::to_string(i) + "', 's" + std::to_string(i) + "': " + std::to_string(i) + ",";
  source += "} %}{{ d|length }} {{ d[150.0] }} {{ d['s77'] }} {{ d[true] }} {{ d[1000] is defined }}";
  EXPECT_EQ(Render(source), "400 n150 77 n1 False");
}

TEST(Jinja, OneTemplateOnManyThreads) {
  const auto parsed =
      Template::Parse("{% macro f(x) %}<{{ x }}>{% endmacro %}{% for x in xs %}{{ f(x) }}{{ loop.index }}{% endfor %}");
  ASSERT_TRUE(parsed.ok());
  const Value context = Value::Object({{"xs", Value::List({Value::UserText("a"), Value::Int(2)})}});
  std::vector<std::thread> threads;
  std::vector<int> good(4, 0);
  for (size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) good[t] += parsed->Render(context)->text == "<a>1<2>2" ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, std::vector<int>(4, 200));
}

}  // namespace
}  // namespace conclave::jinja
