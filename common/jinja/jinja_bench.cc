// SPDX-License-Identifier: Apache-2.0
// What one rendering costs. Run: build/release/bin/jinja_bench
#include <benchmark/benchmark.h>

#include "common/check.h"
#include "common/jinja/jinja.h"

namespace conclave::jinja {
namespace {

constexpr char kChat[] = R"({{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}
        {{- raise_exception('System message must come first') }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})";

constexpr char kPrompt[] =
    "Question: {{ question }}\nRound {{ round }}.\n"
    "{% for seen in inputs %}{{ seen.role }} said: {{ seen.text | trim }}\n{% endfor %}Answer:";

Value Messages(size_t count, size_t bytes) {
  std::vector<Value> messages;
  for (size_t i = 0; i < count; ++i) {
    messages.push_back(Value::Object({{"role", Value::String(i % 2 == 0 ? "user" : "assistant")},
                                      {"content", Value::UserText(std::string(bytes, 'x'))}}));
  }
  return Value::List(std::move(messages));
}

void ChatPrompt(benchmark::State& state) {
  const Template chat = *Template::Parse(kChat);
  const auto count = static_cast<size_t>(state.range(0));
  const Value context = Value::Object({{"messages", Messages(count, static_cast<size_t>(state.range(1)) / count)},
                                       {"add_generation_prompt", Value::Bool(true)},
                                       {"bos_token", Value::String("<s>")}});
  for (auto _ : state) benchmark::DoNotOptimize(chat.Render(context));
}
BENCHMARK(ChatPrompt)->Args({2, 200})->Args({20, 10'000})->Args({200, 100'000});

// As the orchestrator does it: a new context for every call.
void CallPrompt(benchmark::State& state) {
  const Template prompt = *Template::Parse(kPrompt);
  for (auto _ : state) {
    const Value context = Value::Object(
        {{"question", Value::UserText("What is 6 times 7?")},
         {"round", Value::Int(2)},
         {"inputs",
          Value::List({Value::Object({{"role", Value::String("prover")}, {"text", Value::UserText("42.")}}),
                       Value::Object({{"role", Value::String("critic")}, {"text", Value::UserText("Yes")}})})}});
    benchmark::DoNotOptimize(prompt.Render(context));
  }
}
BENCHMARK(CallPrompt);

void Condition(benchmark::State& state) {
  const Expression condition = *Expression::Parse("votes.margin >= 0.6 or round >= 3");
  const Value context =
      Value::Object({{"votes", Value::Object({{"margin", Value::Float(0.5)}})}, {"round", Value::Int(2)}});
  for (auto _ : state) benchmark::DoNotOptimize(condition.Test(context));
}
BENCHMARK(Condition);

void ParseChat(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Template::Parse(kChat));
}
BENCHMARK(ParseChat);

}  // namespace
}  // namespace conclave::jinja

BENCHMARK_MAIN();
