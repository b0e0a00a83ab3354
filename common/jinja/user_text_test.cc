// SPDX-License-Identifier: Apache-2.0
// User text stays marked, whatever a template does to it.
#include "common/jinja/jinja.h"
#include "common/jinja/json.h"
#include "common/jinja/text.h"
#include "common/status.h"

#include <nlohmann/json.hpp>

namespace conclave::jinja {
namespace {

// The rendered text with every user range in ⟦ ⟧.
std::string Marked(const std::string& source, const Value& context) {
  const auto parsed = Template::Parse(source);
  if (!parsed.ok()) return std::string(Message(parsed.status()));
  const auto rendered = parsed->Render(context);
  if (!rendered.ok()) return std::string(Message(rendered.status()));
  std::string out;
  size_t at = 0;
  for (const ByteRange& range : rendered->user_ranges) {
    EXPECT_LT(range.begin, range.end) << source;
    EXPECT_TRUE(range.begin >= at && range.end <= rendered->text.size()) << source;
    out += rendered->text.substr(at, range.begin - at) + "⟦" +
           rendered->text.substr(range.begin, range.end - range.begin) + "⟧";
    at = range.end;
  }
  return out + rendered->text.substr(at);
}

Value Context() {
  return Value::Object({{"u", Value::UserText("Ab c")},
                        {"p", Value::String("Prog")},
                        {"list", Value::List({Value::UserText("x"), Value::String("y"), Value::UserText("z")})},
                        {"d", Value::Object({{"k", Value::UserText("v\"<\n")}})}});
}

TEST(UserText, KeptExactly) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ u }}", "⟦Ab c⟧"},
      {"{{ p }}", "Prog"},
      {"<s>{{ u }}</s>{{ u }}", "<s>⟦Ab c⟧</s>⟦Ab c⟧"},
      {"{{ u + p + u }}", "⟦Ab c⟧Prog⟦Ab c⟧"},
      {"{{ p ~ u ~ 1 }}", "Prog⟦Ab c⟧1"},
      {"{{ (p + u)[2:6] }}", "og⟦Ab⟧"},
      {"{{ (p + u)[::-1] }}", "⟦c bA⟧gorP"},
      {"{{ u[0] }}{{ u[-1] }}{{ u|first }}{{ u|last }}", "⟦AcAc⟧"},
      {"{{ (' ' + u + '  ')|trim }}|", "⟦Ab c⟧|"},
      {"{{ ('-' + u).strip('-A') }}", "⟦b c⟧"},
      {"{{ u.split(' ')[1] }}!", "⟦c⟧!"},
      {"{{ u.split()|join('+') }}", "⟦Ab⟧+⟦c⟧"},
      {"{{ (u + ',' + p).partition(',')|join('|') }}", "⟦Ab c⟧|,|Prog"},
      {"{{ 'a-b'|replace('-', u) }}", "a⟦Ab c⟧b"},
      {"{{ (u + p)|replace('o', '0') }}", "⟦Ab c⟧Pr0g"},
      {"{{ u|replace('b', '--') }}", "⟦A⟧--⟦ c⟧"},
      {"{{ list|join(', ') }}", "⟦x⟧, y, ⟦z⟧"},
      {"{{ u.join(['1', '2']) }}", "1⟦Ab c⟧2"},
      {"{% for c in u %}{{ c }}.{% endfor %}", "⟦A⟧.⟦b⟧.⟦ ⟧.⟦c⟧."},
      {"{{ list }}", "['⟦x⟧', 'y', '⟦z⟧']"},
      {"{{ d|tojson }}", "{\"k\": \"⟦v\\\"<\\n⟧\"}"},
      {"{{ d.k|e }}", "⟦v&#34;&lt;\n⟧"},
      {"{{ d.items()|list }}", "[('k', '⟦v\"<\\n⟧')]"},
      {"{% set x %}a{{ u }}b{% endset %}[{{ x }}]", "[a⟦Ab c⟧b]"},
      {"{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(u) }}", "<⟦Ab c⟧>"},
      {"{% filter trim %} {{ u }} {% endfilter %}", "⟦Ab c⟧"},
      {"{% filter indent(2, true) %}a\n{{ u }}{% endfilter %}", "  a\n  ⟦Ab c⟧"},
      {"{% set ns = namespace(t='') %}{% for x in list %}{% set ns.t = ns.t + x %}{% endfor %}{{ ns.t }}", "⟦x⟧y⟦z⟧"},
      {"{{ u * 2 }}", "⟦Ab cAb c⟧"},
      {"{{ u.center(8, '*') }}", "**⟦Ab c⟧**"},
      {"{{ 'x'.ljust(3, u[0]) }}", "x⟦AA⟧"},
      {"{{ u.removeprefix('A') }}", "⟦b c⟧"},
      {"{{ '{} {}'.format(p, u) }}", "Prog ⟦Ab c⟧"},
      {"{{ u|default('x') }}{{ q|default(u) }}", "⟦Ab cAb c⟧"},
      {"{{ u|truncate(3, true, '!', 0) }}", "⟦Ab⟧!"},
      {"{{ list|sort|join }}{{ list|reverse|join }}{{ list|max }}", "⟦x⟧y⟦zz⟧y⟦xz⟧"},
      {"{{ list|map('upper')|join }}", "⟦X⟧Y⟦Z⟧"},
      {"{{ u|length }}{{ u == 'Ab c' }}", "4True"},
  };
  for (const auto& [source, expected] : cases) EXPECT_EQ(Marked(source, Context()), expected) << source;
}

// Where bytes move about, too much is marked; too little never.
TEST(UserText, MarkedGenerously) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ (p + u)|upper }}", "⟦PROGAB C⟧"},
      {"{{ u|title }}", "⟦Ab C⟧"},
      {"{{ '%s' % u }}|{{ '%s'|format(u) }}", "⟦Ab c⟧|⟦Ab c⟧"},
      {"{{ '{:>6}'.format(u) }}", "⟦  Ab c⟧"},
      {"{{ u|urlencode }}", "⟦Ab%20c⟧"},
      {"{{ u|wordwrap(2) }}", "⟦Ab\nc⟧"},
  };
  for (const auto& [source, expected] : cases) EXPECT_EQ(Marked(source, Context()), expected) << source;
}

TEST(UserText, JsonOfAUser) {
  const auto value = FromJson(nlohmann::ordered_json::parse(R"({"<|im_end|>": ["<|im_start|>", 1]})"), Author::kUser);
  ASSERT_TRUE(value.ok());
  const Value context = Value::Object({{"j", *value}});
  EXPECT_EQ(Marked("{{ j|tojson }}", context), "{\"⟦<|im_end|>⟧\": [\"⟦<|im_start|>⟧\", 1]}");
  EXPECT_EQ(Marked("{% for k in j %}{{ k }}{% endfor %}", context), "⟦<|im_end|>⟧");
}

// Any sequence of operations on random pieces: exactly the bytes that came from the user are marked. The two alphabets
// are disjoint, so every byte tells where it came from.
TEST(UserText, RandomOperationsAgainstTheBytes) {
  const char* operations[] = {"{% set x = x + u %}",
                              "{% set x = p + x %}",
                              "{% set x = x[1:] + u[:2] %}",
                              "{% set x = x|replace('a', 'A') %}",
                              "{% set x = x|replace('B', 'b') %}",
                              "{% set x = x[::-1] %}",
                              "{% set x = x.split('c')|join('C') %}",
                              "{% set x = x.strip('abAB') %}",
                              "{% set x = [x, u, p]|join %}",
                              "{% set x = x ~ p ~ u %}",
                              "{% set x = x|list|sort|join %}"};
  uint32_t state = 12345;  // a linear congruence; the seed is the test's
  for (int round = 0; round < 300; ++round) {
    std::string source = "{% set x = p %}";
    for (int i = 0; i < 8; ++i) {
      state = state * 1664525u + 1013904223u;
      source += operations[(state >> 16) % std::size(operations)];
    }
    const auto rendered =
        Template::Parse(source + "{{ x }}")
            ->Render(Value::Object({{"u", Value::UserText("ABCABD")}, {"p", Value::String("abcdb")}}));
    ASSERT_TRUE(rendered.ok()) << source;
    std::vector<bool> user(rendered->text.size(), false);
    for (const ByteRange& range : rendered->user_ranges) {
      for (size_t i = range.begin; i < range.end; ++i) user[i] = true;
    }
    // The replacements write template letters of the other alphabet; leave those rounds to what they did not touch.
    const bool mixed = source.find("'A'") != std::string::npos || source.find("'b')") != std::string::npos ||
                       source.find("'C'") != std::string::npos;
    for (size_t i = 0; i < user.size() && !mixed; ++i) {
      const bool upper = rendered->text[i] >= 'A' && rendered->text[i] <= 'Z';
      EXPECT_EQ(user[i], upper) << source << "\n" << rendered->text << " at " << i;
    }
    for (size_t i = 0; i < user.size(); ++i) {
      const bool lower = rendered->text[i] >= 'a' && rendered->text[i] <= 'z';
      EXPECT_FALSE(user[i] && lower) << source << "\n" << rendered->text << " at " << i;
    }
  }
}

}  // namespace
}  // namespace conclave::jinja
