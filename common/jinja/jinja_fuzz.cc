// SPDX-License-Identifier: Apache-2.0
// Any bytes as a template and as an expression. Checked besides memory: a rendering is repeatable, its user ranges are
// sorted, disjoint and inside the text, and a limit's error says so.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "common/check.h"
#include "common/jinja/jinja.h"
#include "common/status.h"

namespace {

using conclave::jinja::Value;

const Value& Context() {
  static const Value context = Value::Object(
      {{"messages",
        Value::List({Value::Object({{"role", Value::String("user")}, {"content", Value::UserText("hé<|x|>")}}),
                     Value::Object({{"role", Value::String("tool")}, {"content", Value::None()}})})},
       {"a", Value::Int(3)},
       {"b", Value::Float(2.5)},
       {"l", Value::List({Value::Int(3), Value::UserText("x"), Value::Bool(true)})},
       {"s", Value::UserText("Hello World")},
       {"add_generation_prompt", Value::Bool(true)},
       {"bos_token", Value::String("<s>")}});
  return context;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 16384) return 0;
  const std::string source(reinterpret_cast<const char*>(data), size);
  conclave::jinja::RenderOptions options;
  options.limits.steps = 20'000;
  options.limits.output_bytes = 1 << 16;
  options.limits.memory_bytes = 1 << 22;
  if (const auto parsed = conclave::jinja::Template::Parse(source); parsed.ok()) {
    const auto rendered = parsed->Render(Context(), options);
    const auto again = parsed->Render(Context(), options);
    CONCLAVE_CHECK(rendered.ok() == again.ok());
    if (rendered.ok()) {
      CONCLAVE_CHECK(rendered->text == again->text && rendered->user_ranges == again->user_ranges);
      CONCLAVE_CHECK(rendered->text.size() <= options.limits.output_bytes);
      size_t at = 0;
      for (const conclave::jinja::ByteRange& range : rendered->user_ranges) {
        CONCLAVE_CHECK(range.begin >= at && range.begin < range.end && range.end <= rendered->text.size());
        at = range.end;
      }
    } else {
      CONCLAVE_CHECK(rendered.status().code() == absl::StatusCode::kInvalidArgument);
    }
  }
  if (const auto expression = conclave::jinja::Expression::Parse(source); expression.ok()) {
    (void)expression->Evaluate(Context(), options);
  }
  return 0;
}
