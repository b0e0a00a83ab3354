// SPDX-License-Identifier: Apache-2.0
// A deliberation on the terminal: finished words scroll by, calls in flight are redrawn below them.
#pragma once

#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "conclave/deliberation/v1/deliberation.pb.h"

namespace conclave::cli {

// Text of a model or file made safe for a terminal: control characters and escape sequences become visible or vanish.
std::string SafeForTerminal(std::string_view text);

// Lines of at most `width` columns (counted in code points), each indented; at most lines_max, the middle left out.
std::string Indented(std::string_view text, int indent, int width, int lines_max);

// One person's view of one run. Not thread-safe; feed it the run's events in order.
class LiveView {
 public:
  struct Options {
    bool colour = false;
    bool live = false;    // redraw calls in flight; off: only finished words
    int width = 100;      // columns
    int text_lines = 12;  // of each utterance; 0: all
  };
  LiveView(std::FILE* out, Options options) : out_(out), options_(options) {}

  void OnEvent(const deliberation::v1::Event& event);

 private:
  struct Active {
    std::string where, member, role, text;
    int64_t tokens = 0;
  };

  void OnRunStarted(const deliberation::v1::RunStarted& started);
  void OnCallFinished(const std::string& path, const deliberation::v1::CallFinished& call);
  void OnCallLost(const std::string& path, const deliberation::v1::CallLost& lost);
  void OnNodeFinished(const std::string& path, const deliberation::v1::NodeFinished& node);
  void OnRunFinished(const deliberation::v1::RunFinished& finished);

  void Print(const std::string& text);  // above the calls in flight
  void EraseActive();
  void DrawActive();
  std::string Paint(std::string_view code, std::string_view text) const;

  std::FILE* const out_;
  const Options options_;
  std::map<std::string, Active> active_;  // by node path and call key
  int drawn_lines_ = 0;
};

// "7 calls, 812 prompt tokens (214 cached), 640 output tokens, 0.21 TFLOP"
std::string LedgerLine(const deliberation::v1::Ledger& ledger);

// Columns of the terminal behind `out`, at most 120; 100 if it is none.
int TerminalWidth(std::FILE* out);

}  // namespace conclave::cli
