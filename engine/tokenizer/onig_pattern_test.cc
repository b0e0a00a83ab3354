// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/onig_pattern.h"

#include <gtest/gtest.h>

#include "engine/tokenizer/pcre.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

// The first match as text; "(none)" if there is none.
std::string Match(std::string_view pattern, std::string_view text) {
  const auto translated = TranslateOnigPattern(pattern);
  EXPECT_OK(translated) << pattern;
  if (!translated.ok()) return "";
  const auto compiled = Pcre::Compile(*translated, Pcre::Lines::kMany);
  EXPECT_OK(compiled) << *translated;
  if (!compiled.ok()) return "";
  const auto scratch = Pcre::NewScratch();
  MatchRange range = {};
  const auto found = (*compiled)->Find(text, 0, scratch.get(), &range);
  EXPECT_OK(found);
  return found.ok() && *found ? std::string(text.substr(range.begin, range.end - range.begin)) : "(none)";
}

TEST(OnigPattern, SameMeaning) {
  EXPECT_EQ(Match("\\s+", "a\xc2\xa0\xe3\x80\x80 b"), "\xc2\xa0\xe3\x80\x80 ");
  EXPECT_EQ(Match("\\s", "\xe1\xa0\x8e"), "(none)");  // U+180E is no white space any more
  EXPECT_EQ(Match("[^\\s]+", "  ab "), "ab");
  EXPECT_EQ(Match("[\\S]+", "  ab "), "ab");
  EXPECT_EQ(Match("\\S+", "  ab "), "ab");
  EXPECT_EQ(Match("\\d+", "x12\xd9\xa3y"), "12\xd9\xa3");
  EXPECT_EQ(Match("\\w+",
                  " a_\xcc\x81"
                  "1-"),
            "a_\xcc\x81"
            "1");
  EXPECT_EQ(Match("\\p{Han}+", "a\xe6\xbc\xa2\xe3\x83\xbc"), "\xe6\xbc\xa2");  // U+30FC is Common, used with Han
  EXPECT_EQ(Match("\\p{^L}+", "ab12"), "12");
  EXPECT_EQ(Match("\\v", "\x0b"), "\x0b");
  EXPECT_EQ(Match("\\v", "\n"), "(none)");
  EXPECT_EQ(Match("^b$", "a\nb\nc"), "b");
  EXPECT_EQ(Match("\\u0041\\x42\\x{43}", "ABC"), "ABC");
  EXPECT_EQ(Match("[]a]+", "]a"), "]a");
  EXPECT_EQ(Match("[\\]\\-\\^]+", "a]-^"), "]-^");
  EXPECT_EQ(Match("(?i:'ll|'s)", "'LL"), "'LL");
  EXPECT_EQ(Match("a{2,3}", "aaaa"), "aaa");
  EXPECT_EQ(Match("[^\\r\\n\\p{L}]?+\\p{L}++", " word"), " word");
}

TEST(OnigPattern, WhatDiffersIsNamed) {
  struct Case {
    const char *pattern, *named;
  };
  for (const Case& c :
       {Case{"[a[bc]]", "class within"}, Case{"[a&&b]", "intersection"}, Case{"\\h", "\\h"}, Case{"\\R", "\\R"},
        Case{"\\X", "\\X"}, Case{"\\b", "\\b"}, Case{"(a)\\1", "\\1"}, Case{"a{2}+", "behind a count"},
        Case{"a{,2}", "no count"}, Case{"(?m:a)", "(?m:"}, Case{"(?<name>a)", "(?<n"}, Case{"\\p{Alpha}", "Alpha"},
        Case{"\\pL", "without braces"}, Case{"\\xff", "no character"}, Case{"\\u12", "not complete"},
        Case{"[\\D]", "\\D in a class"}, Case{"[a", "without its end"}, Case{"a\\", "backslash"}}) {
    EXPECT_THAT(TranslateOnigPattern(c.pattern).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.named)))
        << c.pattern;
  }
}

TEST(OnigPattern, Literals) {
  for (const char* literal : {"a.b", "\\", "[x]{2}", "\xe2\x96\x81", "--", "#"}) {
    const std::string text = literal;
    const auto compiled = Pcre::Compile(LiteralPattern(text), Pcre::Lines::kOne);
    ASSERT_OK(compiled);
    const auto scratch = Pcre::NewScratch();
    MatchRange range = {};
    EXPECT_TRUE(*(*compiled)->Find(std::string(2, 'x').append(text), 0, scratch.get(), &range)) << text;
    EXPECT_EQ(range.begin, 2u);
    EXPECT_EQ(range.end, 2 + text.size());
  }
}

TEST(OnigPattern, BacktrackingIsLimited) {
  const auto compiled = Pcre::Compile("(a+)+$", Pcre::Lines::kOne);
  ASSERT_OK(compiled);
  const auto scratch = Pcre::NewScratch();
  MatchRange range = {};
  EXPECT_THAT((*compiled)->Find(std::string(60, 'a').append(1, 'b'), 0, scratch.get(), &range).status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace conclave::engine
