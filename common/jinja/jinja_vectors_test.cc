// SPDX-License-Identifier: Apache-2.0
// Chat templates of real models over recorded contexts: the text Python's jinja2 rendered, or the error it raised.
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/jinja/jinja.h"
#include "common/jinja/json.h"
#include "common/status.h"
#include "tests/testing/shared_data.h"

namespace conclave::jinja {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kRecordedNow = 1'768'478'400;  // 2026-01-15 12:00 UTC, when the recordings were made

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<Json> ReadLines(const std::string& path) {
  std::ifstream in(path);
  std::vector<Json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

// The rendered text, or "!" and the error.
std::string RenderOrError(const std::string& source, const Json& context, int64_t now = kRecordedNow) {
  const auto parsed = Template::Parse(source);
  if (!parsed.ok()) return "!" + std::string(Message(parsed.status()));
  auto value = FromJson(context, Author::kProgram);
  if (!value.ok()) return "!" + std::string(Message(value.status()));
  const auto rendered = parsed->Render(*value, {.now_unix_seconds = now, .limits = {}});
  if (!rendered.ok()) return "!" + std::string(Message(rendered.status()));
  return rendered->text;
}

// An error agrees when its text is the recorded one, but for our position behind it.
void ExpectError(const std::string& actual, const std::string& expected, const std::string& name) {
  ASSERT_TRUE(actual.starts_with("!")) << name << ": expected " << expected << ", rendered " << actual;
  const size_t position = actual.rfind(" (line ");
  EXPECT_EQ(actual.substr(1, position - 1), expected) << name;
}

TEST(ChatTemplates, RenderAsRecorded) {
  SKIP_WITHOUT_SHARED(folder, "data/chat_templates");
  const Json contexts = Json::parse(ReadFile(folder + "/contexts.json"));
  const Json inline_templates = Json::parse(ReadFile(folder + "/inline_templates.json"));
  size_t count = 0;
  for (const Json& line : ReadLines(folder + "/rendered_jinja2.jsonl")) {
    const std::string name = line["template"];
    const std::string source = inline_templates.contains(name) ? inline_templates[name].get<std::string>()
                                                               : ReadFile(folder + "/templates/" + name + ".jinja");
    const std::string actual = RenderOrError(source, contexts[line["context"].get<std::string>()]);
    const std::string where = name + " over " + line["context"].get<std::string>();
    if (line.contains("error")) {
      ExpectError(actual, line["error"], where);
    } else {
      EXPECT_EQ(actual, line["expected"].get<std::string>()) << where;
    }
    ++count;
  }
  EXPECT_EQ(count, 360u);
}

// Unit cases of huggingface.js. Their expectations are JavaScript's; where Python differs (`jinja2_agrees` is not true)
// Python decides, which recorded only its errors: that the others render is all that is checked here.
TEST(ChatTemplates, HuggingFaceUnitCases) {
  SKIP_WITHOUT_SHARED(path, "data/chat_templates/jinja_unit_huggingface_js.jsonl");
  size_t agreeing = 0, failing = 0;
  for (const Json& line : ReadLines(path)) {
    const std::string name = line["name"];
    if (line["has_function"].get<bool>()) continue;
    const std::string actual = RenderOrError(line["template"], line["context"]);
    if (line.contains("jinja2_error")) {
      ASSERT_TRUE(actual.starts_with("!")) << name << ": rendered " << actual;
      EXPECT_NE(actual.find(line["jinja2_error"].get<std::string>()), std::string::npos) << name << ": " << actual;
      ++failing;
    } else if (line["jinja2_agrees"] == true) {
      EXPECT_EQ(actual, line["expected"].get<std::string>()) << name;
      ++agreeing;
    } else {
      EXPECT_FALSE(actual.starts_with("!")) << name << ": " << actual;
    }
  }
  EXPECT_GE(agreeing, 40u);
  EXPECT_GE(failing, 4u);
}

TEST(ChatTemplates, HuggingFaceEndToEnd) {
  SKIP_WITHOUT_SHARED(path, "data/chat_templates/huggingface_js_e2e.jsonl");
  constexpr int64_t kJuly2025 = 1'752'148'800;  // 2025-07-10 12:00 UTC, as these targets expect
  size_t count = 0;
  for (const Json& line : ReadLines(path)) {
    const std::string name = line["name"];
    // Where Python was only stopped by the {% generation %} tag, which its plain jinja2 does not know, the target
    // holds.
    const bool generation = line.contains("jinja2_error") &&
                            line["jinja2_error"].get<std::string>().find("'generation'") != std::string::npos;
    if (line["jinja2_agrees"] != true && !generation) continue;
    EXPECT_EQ(RenderOrError(line["template"], line["data"], kJuly2025), line["target"].get<std::string>()) << name;
    ++count;
  }
  EXPECT_EQ(count, 52u);
}

TEST(ChatTemplates, LlamaCppVectors) {
  SKIP_WITHOUT_SHARED(path, "data/chat_templates/llama_cpp_vectors.jsonl");
  size_t count = 0;
  for (const Json& line : ReadLines(path)) {
    const std::string name = line["name"];
    Json context;
    for (const char* key : {"bos_token", "eos_token", "messages", "add_generation_prompt"}) context[key] = line[key];
    const std::string actual = RenderOrError(line["template"], context);
    if (line.contains("jinja2_error")) {
      EXPECT_NE(actual.find(line["jinja2_error"].get<std::string>()), std::string::npos) << name << ": " << actual;
    } else {
      EXPECT_EQ(actual, line["jinja2_output"].get<std::string>()) << name;
    }
    ++count;
  }
  EXPECT_EQ(count, 38u);
}

}  // namespace
}  // namespace conclave::jinja
