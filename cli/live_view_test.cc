// SPDX-License-Identifier: Apache-2.0
#include "cli/live_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace conclave::cli {
namespace {

using deliberation::v1::Event;
using ::testing::HasSubstr;
using ::testing::Not;

// Everything that LiveView wrote for these events.
std::string View(const std::vector<Event>& events, LiveView::Options options) {
  char* buffer = nullptr;
  size_t size = 0;
  std::FILE* out = open_memstream(&buffer, &size);
  LiveView view(out, options);
  for (const Event& event : events) view.OnEvent(event);
  std::fclose(out);
  std::string text(buffer, size);
  std::free(buffer);
  return text;
}

Event Call(const std::string& member, const std::string& text) {
  Event event;
  event.set_node_path("draft");
  auto* call = event.mutable_call_finished();
  call->mutable_key()->set_member(member);
  call->mutable_key()->set_subject(-1);
  call->set_text(text);
  call->set_answer("42");
  return event;
}

TEST(SafeForTerminal, AModelCannotDriveTheTerminal) {
  EXPECT_EQ(SafeForTerminal("a\x1b[2Jb"), "a␛[2Jb");
  EXPECT_EQ(SafeForTerminal("a\r\x07\x7f\xC2\x9B"
                            "31mb"),
            "a31mb");
  EXPECT_EQ(SafeForTerminal("é — ok\n\tx"), "é — ok\n x");
}

TEST(Indented, WrapsAtWordsAndLeavesOutTheMiddle) {
  EXPECT_EQ(Indented("one two three four five six", 2, 22, 0), "  one two three four \n  five six\n");
  EXPECT_EQ(Indented("1\n2\n3\n4\n5\n6\n", 0, 40, 3), "1\n2\n… 4 lines …\n");
  EXPECT_EQ(Indented("", 2, 40, 3), "");
}

TEST(LiveView, PlainPrintsFinishedWordsWithoutEscapes) {
  Event started;
  started.set_node_path("draft");
  started.mutable_call_started()->mutable_key()->set_member("a");
  const std::string text = View({started, Call("dense/a", "6 * 7 = 42"), Call("dense/b", "\x1b]0;evil\x07")}, {});
  EXPECT_THAT(text, HasSubstr("draft dense/a  → 42"));
  EXPECT_THAT(text, HasSubstr("  6 * 7 = 42\n"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(LiveView, LiveErasesExactlyWhatItDrew) {
  Event started;
  started.set_node_path("draft");
  started.mutable_call_started()->mutable_key()->set_member("a");
  Event other = started;
  other.mutable_call_started()->mutable_key()->set_member("b");
  const std::string text = View({started, other}, {.colour = true, .live = true});
  // One line drawn, erased by going up one, then two lines.
  EXPECT_THAT(text, HasSubstr("\x1b[1A\x1b[J"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b[2A")));
}

TEST(LiveView, TheLedgerIsOneLine) {
  deliberation::v1::Ledger ledger;
  ledger.set_calls(7);
  ledger.set_prompt_tokens(812);
  ledger.set_cached_tokens(214);
  ledger.set_output_tokens(640);
  ledger.set_flops(2.1e11);
  EXPECT_EQ(LedgerLine(ledger), "7 calls, 812 prompt tokens (214 cached), 640 output tokens, 210.0 GFLOP");
  ledger.set_saved_flops(1.25e12);
  EXPECT_EQ(LedgerLine(ledger),
            "7 calls, 812 prompt tokens (214 cached, 1.25 TFLOP saved), 640 output tokens, 210.0 GFLOP");
}

}  // namespace
}  // namespace conclave::cli
