// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler/stop_matcher.h"

#include <random>

#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

std::shared_ptr<const StopStrings> Stops(std::vector<std::string> strings) {
  auto stops = StopStrings::Create(std::move(strings));
  EXPECT_OK(stops);
  return *stops;
}

struct Result {
  std::string text;
  std::string match;
  friend bool operator==(const Result&, const Result&) = default;
};
void PrintTo(const Result& r, std::ostream* out) { *out << '"' << r.text << "\" stopped by \"" << r.match << '"'; }

Result Match(const std::shared_ptr<const StopStrings>& stops, const std::vector<std::string>& parts) {
  StopMatcher matcher(stops);
  Result result;
  for (const std::string& part : parts) {
    if (const std::string* match = matcher.Append(part, &result.text); match != nullptr) {
      result.match = *match;
      return result;
    }
  }
  matcher.Finish(&result.text);
  return result;
}

TEST(StopMatcherTest, HoldsBackOnlyWhatMayBeginAStopString) {
  StopMatcher matcher(Stops({"STOP"}));
  std::string out;
  EXPECT_EQ(matcher.Append("go S", &out), nullptr);
  EXPECT_EQ(out, "go ");
  EXPECT_EQ(matcher.Append("TO", &out), nullptr);
  EXPECT_EQ(out, "go ");
  EXPECT_EQ(matcher.held_bytes(), 3u);
  EXPECT_EQ(matcher.Append("RE ", &out), nullptr);
  EXPECT_EQ(out, "go STORE ");
  const std::string* match = matcher.Append("STSTOP more", &out);
  ASSERT_NE(match, nullptr);
  EXPECT_EQ(*match, "STOP");
  EXPECT_EQ(out, "go STORE ST");
}

TEST(StopMatcherTest, ReleasesWhatItHeldAtTheEnd) {
  EXPECT_EQ(Match(Stops({"\n\n"}), {"a\n"}), (Result{"a\n", ""}));
  EXPECT_EQ(Match(Stops({}), {"a", "b"}), (Result{"ab", ""}));
}

TEST(StopMatcherTest, FirstToEndThenLongest) {
  EXPECT_EQ(Match(Stops({"abc", "b"}), {"xabc"}), (Result{"xa", "b"}));
  EXPECT_EQ(Match(Stops({"bc", "abc"}), {"xabc"}), (Result{"x", "abc"}));
  EXPECT_EQ(Match(Stops({"aab"}), {"aaab"}), (Result{"a", "aab"}));
  EXPECT_EQ(Match(Stops({"abab"}), {"ab", "aab", "ab"}), (Result{"aba", "abab"}));
}

// Any cut of the text gives the same; emitted text never begins a stop string that follows.
TEST(StopMatcherTest, EqualsTheDefinitionHoweverTheTextIsCut) {
  constexpr uint64_t kSeed = 17;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  const auto word = [&](size_t size) {
    std::string text;
    for (size_t i = 0; i < size; ++i) text += "ab"[random() % 2];
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> strings;
    for (size_t i = 0, n = 1 + random() % 3; i < n; ++i) strings.push_back(word(1 + random() % 5));
    const std::string text = word(random() % 30);
    // By definition: over all ends, the first at which some string ends.
    Result expected = {text, ""};
    for (size_t end = 1; end <= text.size() && expected.match.empty(); ++end) {
      for (const std::string& stop : strings) {
        if (end >= stop.size() && text.compare(end - stop.size(), stop.size(), stop) == 0 &&
            stop.size() > expected.match.size()) {
          expected = {text.substr(0, end - stop.size()), stop};
        }
      }
    }
    std::vector<std::string> parts;
    for (size_t begin = 0; begin < text.size();) {
      const size_t size = 1 + random() % 4;
      parts.push_back(text.substr(begin, size));
      begin += size;
    }
    ASSERT_EQ(Match(Stops(strings), parts), expected) << text;
  }
}

TEST(StopMatcherTest, EmitsWholeCharacters) {
  StopMatcher matcher(Stops({"\xc3\xa9\xc3\xa8"}));
  std::string out;
  matcher.Append("\xc3\xa9", &out);
  EXPECT_EQ(out, "");
  matcher.Append("\xc3\xa9", &out);
  EXPECT_EQ(out, "\xc3\xa9");
  matcher.Append("\xc3\xa0", &out);
  EXPECT_EQ(out, "\xc3\xa9\xc3\xa9\xc3\xa0");
}

TEST(StopMatcherTest, RefusesStringsOutsideTheLimits) {
  const auto refused = [](const char* text) { return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)); };
  EXPECT_OK(StopStrings::Create(std::vector<std::string>(kStopMatcherStringsMax, "x")));
  EXPECT_THAT(StopStrings::Create(std::vector<std::string>(kStopMatcherStringsMax + 1, "x")),
              refused("17 stop strings"));
  EXPECT_OK(StopStrings::Create({std::string(kStopMatcherStringBytesMax, 'x')}));
  EXPECT_THAT(StopStrings::Create({std::string(kStopMatcherStringBytesMax + 1, 'x')}), refused("257 bytes"));
  EXPECT_THAT(StopStrings::Create({"a", ""}), refused("stop string 1 is empty"));
  for (const char* bad :
       {"\xff", "\xa9", "\xc3", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe0\x80\x80", "a\xf0\x9f\x98"}) {
    EXPECT_THAT(StopStrings::Create({bad}), refused("not valid UTF-8"));
  }
  EXPECT_OK(StopStrings::Create({"\xf0\x9f\x98\x80", "\xe6\xbc\xa2", "\xed\x9f\xbf"}));
}

}  // namespace
}  // namespace conclave::engine
