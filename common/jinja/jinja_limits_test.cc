// SPDX-License-Identifier: Apache-2.0
// Every limit at its value and one beyond it; and programs made to hang, fill memory or overflow the stack.
#include "common/jinja/jinja.h"
#include "common/status.h"

namespace conclave::jinja {
namespace {

std::string RenderOrError(const std::string& source, const Value& context = Value::Object({}), Limits limits = {}) {
  const auto parsed = Template::Parse(source);
  if (!parsed.ok()) return "!" + std::string(Message(parsed.status()));
  const auto rendered = parsed->Render(context, {.now_unix_seconds = 0, .limits = limits});
  return rendered.ok() ? rendered->text : "!" + std::string(Message(rendered.status()));
}

void ExpectLimit(const std::string& source, const Value& context = Value::Object({})) {
  const std::string result = RenderOrError(source, context);
  EXPECT_TRUE(result.starts_with("!TEMPLATE_LIMIT")) << source.substr(0, 200) << "\n" << result.substr(0, 200);
}

std::string Repeat(const std::string& unit, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += unit;
  return out;
}

TEST(Limits, ErrorsAreInvalidArgument) {
  const auto rendered = Template::Parse("{{ 'a' * 5000000 }}")->Render(Value::Object({}));
  EXPECT_EQ(rendered.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Limits, Output) {
  const std::string at = "{{ 'x' * " + std::to_string(kMaxOutputBytes) + " }}";
  EXPECT_EQ(RenderOrError(at).size(), kMaxOutputBytes);
  ExpectLimit("{{ 'x' * " + std::to_string(kMaxOutputBytes + 1) + " }}");
  const std::string half = "{% set h = 'x' * " + std::to_string(kMaxOutputBytes / 2) + " %}";
  EXPECT_EQ(RenderOrError(half + "{{ h }}{{ h }}").size(), kMaxOutputBytes);
  ExpectLimit(half + "{{ h }}{{ h }}y");
}

TEST(Limits, Steps) {
  // The number of steps is an implementation matter; where it ends is not: exactly at the limit it still renders.
  const std::string source = "{% for i in range(10) %}{{ i }}{% endfor %}";
  int64_t needed = 1;
  while (RenderOrError(source, Value::Object({}), {.steps = needed}).starts_with("!")) ++needed;
  EXPECT_GT(needed, 30);
  EXPECT_EQ(RenderOrError(source, Value::Object({}), {.steps = needed}), "0123456789");
  EXPECT_TRUE(RenderOrError(source, Value::Object({}), {.steps = needed - 1}).starts_with("!TEMPLATE_LIMIT"));
  ExpectLimit(
      "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}"
      "{% endfor %}");
}

TEST(Limits, Range) {
  EXPECT_EQ(RenderOrError("{{ range(100000)|length }}"), "100000");
  ExpectLimit("{{ range(100001)|length }}");
  ExpectLimit("{{ range(1000000000) }}");
  ExpectLimit("{{ range(-9223372036854775807, 9223372036854775807) }}");
}

TEST(Limits, SourceNesting) {
  const auto parens = [](size_t depth) { return "{{ " + Repeat("(", depth) + "1" + Repeat(")", depth) + " }}"; };
  EXPECT_EQ(RenderOrError(parens(kMaxDepth - 2)), "1");  // the template and the expression are levels too
  ExpectLimit(parens(kMaxDepth - 1));
  ExpectLimit(parens(100'000));
  const auto ifs = [](size_t depth) { return Repeat("{% if true %}", depth) + "x" + Repeat("{% endif %}", depth); };
  EXPECT_EQ(RenderOrError(ifs(kMaxDepth - 1)), "x");
  ExpectLimit(ifs(kMaxDepth));
  for (const char* opener : {"[", "{1:", "not ", "-", "a[", "f(", "a if b else ", "x is in x is in ", "'a'|f(", "{{"}) {
    const std::string result = RenderOrError("{{ " + Repeat(opener, 50'000));
    EXPECT_TRUE(result.starts_with("!")) << opener;
  }
}

TEST(Limits, LongChainsAreNotDeep) {
  EXPECT_EQ(RenderOrError("{{ 1" + Repeat(" + 1", 20'000) + " }}"), "20001");
  EXPECT_EQ(RenderOrError("{{ 'a'" + Repeat("|upper", 20'000) + " }}"), "A");
  EXPECT_EQ(RenderOrError("{{ true" + Repeat(" and true", 20'000) + " }}"), "True");
  EXPECT_EQ(RenderOrError("{% if false %}" + Repeat("{% elif false %}", 500) + "{% else %}x{% endif %}"), "x");
}

TEST(Limits, MacroCalls) {
  const std::string macro = "{% macro f(n) %}{% if n > 1 %}{{ f(n - 1) }}{% endif %}x{% endmacro %}";
  EXPECT_EQ(RenderOrError(macro + "{{ f(" + std::to_string(kMaxDepth) + ") }}").size(), size_t{kMaxDepth});
  ExpectLimit(macro + "{{ f(" + std::to_string(kMaxDepth + 1) + ") }}");
  ExpectLimit("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
  ExpectLimit("{% macro f() %}" + Repeat("{% if true %}", 90) + "{{ " + Repeat("(", 80) + "f()" + Repeat(")", 80) +
              " }}" + Repeat("{% endif %}", 90) + "{% endmacro %}{{ f() }}");
  ExpectLimit("{% set ns = namespace() %}{% macro f() %}{{ ns.f() }}{% endmacro %}{% set ns.f = f %}{{ f() }}");
  ExpectLimit("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}");
}

TEST(Limits, ValueNesting) {
  const std::string grow = "{% set ns = namespace(x=[]) %}{% for i in range(N) %}{% set ns.x = [ns.x] %}{% endfor %}";
  const auto with = [&](int n) {
    std::string source = grow;
    return source.replace(source.find('N'), 1, std::to_string(n)) + "{{ ns.x|length }}";
  };
  EXPECT_EQ(RenderOrError(with(kMaxDepth - 2)), "1");  // the innermost list and the namespace are levels too
  ExpectLimit(with(kMaxDepth - 1));
  ExpectLimit("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}");
  Value deep = Value::List({});
  for (int i = 2; i < kMaxDepth; ++i) deep = Value::List({deep});
  EXPECT_EQ(RenderOrError("{{ x|length }}", Value::Object({{"x", deep}})), "1");
  ExpectLimit("{{ x|length }}", Value::Object({{"x", Value::List({deep})}}));
}

// Each of these would run for hours, or fill memory, where only results were limited.
TEST(Limits, NothingRunsAway) {
  const std::string big = "{% set s = 'a' * 4000000 %}";
  const std::string forever = "{% for i in range(100000) %}";
  for (const std::string& source : {
           std::string("{{ 'a' * 999999999999 }}"),
           std::string("{{ [1] * 999999999999 }}"),
           std::string("{{ [[]] * 9223372036854775807 }}"),
           big + "{{ s|replace('a', 'aaaaaaaaaaaaaaaa') }}",
           big + "{{ s|replace('', s) }}",
           big + forever + "{% if s|replace('b', 'c') %}{% endif %}{% endfor %}",
           big + forever + "{% if 'b' in s %}{% endif %}{% endfor %}",
           big + "{% set h = 'a' * 2000000 ~ 'b' %}" + forever + "{% if h in s %}{% endif %}{% endfor %}",
           big + "{% set t = s ~ '' %}" + forever + "{% if s == t %}{% endif %}{% endfor %}",
           big + forever + "{% if s[i:i + 1] %}{% endif %}{% endfor %}",
           big + "{{ s|list|length }}",
           big + "{{ s|join(s) }}",
           big + "{{ (s ~ ' b')|wordwrap(1) }}",
           big + forever + "{% if s|upper %}{% endif %}{% endfor %}",
           big + forever + "{% if s.strip('bcdefgh' * 100000) %}{% endif %}{% endfor %}",
           big + forever + "{% if s.rsplit('ab', 3) %}{% endif %}{% endfor %}",
           big + forever + "{% set d = {s: 1} %}{% endfor %}",
           std::string(
               "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
               "{{ ns.x }}"),
           std::string("{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
                       "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}"),
           std::string(
               "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}"
               "{{ {ns.x: 1} }}"),
           std::string(
               "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
               "{{ ns.x|tojson }}"),
           std::string(
               "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"),
           std::string(
               "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"),
           std::string("{% for a in range(100000)|sort(reverse=true) %}{% for b in range(100000)|sort %}{% endfor %}"
                       "{% endfor %}"),
           std::string("{{ [1]|batch(999999999, 'x')|list }}"),
           std::string("{{ [1]|slice(999999999)|list }}"),
           std::string("{{ 'a'.center(999999999) }}"),
           std::string("{{ 'a'.zfill(9223372036854775807) }}"),
           std::string("{{ 'a\tb'.expandtabs(999999999999) }}"),
           std::string("{{ 'x'|indent(999999999999) }}"),
           std::string("{{ '%999999999d' % 1 }}"),
           std::string("{{ '{:999999999}'.format(1) }}"),
           std::string("{{ '%.999999f' % 1.5 }}"),
           std::string("{{ 9223372036854775807 + 1 }}"),
           std::string("{{ 3 ** 999999999 }}"),
           std::string("{{ 99999999999999999999 }}"),
           std::string("{{ '99999999999999999999'|int }}"),
           std::string("{{ strftime_now('%999999d' * 100) }}"),
       }) {
    ExpectLimit(source);
  }
}

TEST(Limits, IntegerEdges) {
  EXPECT_EQ(RenderOrError("{{ -9223372036854775807 - 1 }}"), "-9223372036854775808");
  ExpectLimit("{{ -9223372036854775807 - 2 }}");
  ExpectLimit("{{ (-9223372036854775807 - 1) // -1 }}");
  EXPECT_EQ(RenderOrError("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
  ExpectLimit("{{ -(-9223372036854775807 - 1) }}");
  ExpectLimit("{{ (-9223372036854775807 - 1)|abs }}");
  EXPECT_EQ(RenderOrError("{{ [1,2,3][-9223372036854775807:9223372036854775807:9223372036854775807] }}"), "[1]");
  EXPECT_EQ(RenderOrError("{{ range(10)[::-9223372036854775807]|list }}"), "[9]");
}

TEST(Limits, SourceSize) {
  EXPECT_TRUE(Template::Parse(std::string(kMaxSourceBytes, 'x')).ok());
  EXPECT_FALSE(Template::Parse(std::string(kMaxSourceBytes + 1, 'x')).ok());
}

TEST(Limits, ManyBranchesManyNames) {
  std::string source;
  for (int i = 0; i < 3000; ++i) {
    const std::string name = "v" + std::to_string(i);
    source += "{% if a %}{% set " + name + " = 1 %}{% endif %}";
  }
  EXPECT_FALSE(Template::Parse(source).ok());  // quadratic in the names: refused, not computed
}

}  // namespace
}  // namespace conclave::jinja
