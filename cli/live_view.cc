// SPDX-License-Identifier: Apache-2.0
#include "cli/live_view.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>

namespace conclave::cli {
namespace {

using deliberation::v1::CallFinished;
using deliberation::v1::CallKey;
using deliberation::v1::CallLost;
using deliberation::v1::Event;
using deliberation::v1::Ledger;
using deliberation::v1::NodeFinished;
using deliberation::v1::RunFinished;
using deliberation::v1::RunStarted;

constexpr int kActiveLinesMax = 10;
constexpr std::string_view kBold = "1", kDim = "2", kGreen = "32", kRed = "31", kYellow = "33", kCyan = "36";

bool Continues(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

// The first `columns` code points.
std::string_view FirstColumns(std::string_view text, int columns) {
  size_t i = 0;
  for (int n = 0; i < text.size(); ++i) {
    if (!Continues(text[i]) && n++ == columns) break;
  }
  return text.substr(0, i);
}

// The last `columns` code points.
std::string_view LastColumns(std::string_view text, int columns) {
  size_t i = text.size();
  for (int n = 0; i > 0 && n < columns; --i) n += Continues(text[i - 1]) ? 0 : 1;
  return text.substr(i);
}

std::string KeyOf(const std::string& path, const CallKey& key) {
  return fmt::format("{}|{}|{}|{}", path, key.member(), key.sample(), key.subject());
}

std::string Who(const CallKey& key) {
  return key.sample() > 0 ? fmt::format("{} #{}", SafeForTerminal(key.member()), key.sample() + 1)
                          : SafeForTerminal(key.member());
}

std::string Work(double flops) {
  return flops >= 1e12 ? fmt::format("{:.2f} TFLOP", flops * 1e-12) : fmt::format("{:.1f} GFLOP", flops * 1e-9);
}

}  // namespace

std::string SafeForTerminal(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<uint8_t>(text[i]);
    if (c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f && c != 0xC2)) {
      out += text[i] == '\t' ? ' ' : text[i];
    } else if (c == 0xC2 && i + 1 < text.size() && static_cast<uint8_t>(text[i + 1]) < 0xA0) {
      ++i;  // C1 control characters, which some terminals obey
    } else if (c == 0xC2) {
      out += text[i];
    } else if (c == 0x1b) {
      out += "␛";
    }
  }
  return out;
}

std::string Indented(std::string_view text, int indent, int width, int lines_max) {
  std::vector<std::string> lines;
  const int columns = std::max(20, width - indent);
  while (!text.empty()) {
    const size_t newline = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, newline);
    text.remove_prefix(std::min(newline + 1, text.size()));
    do {
      std::string_view piece = FirstColumns(line, columns);
      if (piece.size() < line.size()) {
        const size_t space = piece.rfind(' ');
        if (space != piece.npos && space > piece.size() / 2) piece = piece.substr(0, space + 1);
      }
      lines.emplace_back(piece);
      line.remove_prefix(piece.size());
    } while (!line.empty());
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  std::string out;
  const int n = static_cast<int>(lines.size());
  const std::string pad(static_cast<size_t>(indent), ' ');
  for (int i = 0; i < n; ++i) {
    if (lines_max > 0 && n > lines_max && i == lines_max * 2 / 3) {
      const int skipped = n - lines_max + 1;
      out += fmt::format("{}… {} lines …\n", pad, skipped);
      i += skipped - 1;
      continue;
    }
    out += pad + lines[static_cast<size_t>(i)] + "\n";
  }
  return out;
}

int TerminalWidth(std::FILE* out) {
  winsize size{};
  if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 100;
  return std::clamp<int>(size.ws_col, 40, 120);
}

std::string LedgerLine(const Ledger& l) {
  std::string line =
      fmt::format("{} call{}, {} prompt tokens", l.calls(), l.calls() == 1 ? "" : "s", l.prompt_tokens());
  if (l.cached_tokens() > 0) {
    line += fmt::format(" ({} cached", l.cached_tokens());
    if (l.saved_flops() > 0) line += fmt::format(", {} saved", Work(l.saved_flops()));
    line += ")";
  }
  line += fmt::format(", {} output tokens", l.output_tokens());
  if (l.discarded_tokens() > 0) line += fmt::format(" ({} discarded)", l.discarded_tokens());
  if (l.flops() > 0) line += ", " + Work(l.flops());
  if (l.weight_bytes() > 0) line += fmt::format(", {:.1f} GB of weights read", l.weight_bytes() * 1e-9);
  if (l.estimated()) line += " (partly estimated)";
  return line;
}

std::string LiveView::Paint(std::string_view code, std::string_view text) const {
  return options_.colour ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

void LiveView::EraseActive() {
  if (drawn_lines_ > 0) fmt::print(out_, "\x1b[{}A\x1b[J", drawn_lines_);
  drawn_lines_ = 0;
}

void LiveView::DrawActive() {
  if (!options_.live) return;
  int lines = 0;
  for (const auto& [key, call] : active_) {
    if (lines == kActiveLinesMax) {
      fmt::print(out_, "{}\n",
                 Paint(kDim, fmt::format("  … and {} more", active_.size() - static_cast<size_t>(lines))));
      ++lines;
      break;
    }
    const std::string head = fmt::format("  {:<20} {:<18} {:>4} ", std::string(FirstColumns(call.where, 20)),
                                         std::string(FirstColumns(call.member, 18)), call.tokens);
    std::string tail = call.text;
    std::replace(tail.begin(), tail.end(), '\n', ' ');
    const int room = std::max(0, options_.width - 1 - static_cast<int>(head.size()));
    fmt::print(out_, "{}{}\n", Paint(kCyan, head), Paint(kDim, LastColumns(tail, room)));
    ++lines;
  }
  drawn_lines_ = lines;
  std::fflush(out_);
}

void LiveView::Print(const std::string& text) {
  EraseActive();
  std::fwrite(text.data(), 1, text.size(), out_);
  DrawActive();
  std::fflush(out_);
}

void LiveView::OnRunStarted(const RunStarted& started) {
  std::string members;
  for (const std::string& member : started.members())
    members += (members.empty() ? "" : ", ") + SafeForTerminal(member);
  Print(fmt::format("{} {}\n\n", Paint(kBold, SafeForTerminal(started.graph())),
                    Paint(kDim, fmt::format("with {} · seed {}", members, started.seed()))));
}

void LiveView::OnCallFinished(const std::string& path, const CallFinished& call) {
  active_.erase(KeyOf(path, call.key()));
  std::string head = fmt::format("{} {}", Paint(kBold, SafeForTerminal(path)), Paint(kCyan, Who(call.key())));
  if (call.key().subject() >= 0) head += Paint(kDim, fmt::format(" on #{}", call.key().subject() + 1));
  if (call.has_score()) {
    head += "  " + Paint(call.score() >= 0.5 ? kGreen : kRed,
                         fmt::format("{} {:.2f}", call.score() >= 0.5 ? "accept" : "reject", call.score()));
  } else if (call.has_answer()) {
    head += "  " + Paint(kYellow, "→ " + SafeForTerminal(call.answer()));
  }
  head += Paint(kDim, fmt::format("  {} tokens", call.usage().output_token_count()));
  Print(head + "\n" + Indented(SafeForTerminal(call.text()), 2, options_.width, options_.text_lines) + "\n");
}

void LiveView::OnCallLost(const std::string& path, const CallLost& lost) {
  active_.erase(KeyOf(path, lost.key()));
  Print(fmt::format("{} {} {}\n", Paint(kBold, SafeForTerminal(path)), Paint(kCyan, Who(lost.key())),
                    Paint(kRed, fmt::format("lost{}: {}", lost.will_retry() ? ", trying again" : "",
                                            SafeForTerminal(lost.message())))));
}

void LiveView::OnNodeFinished(const std::string& path, const NodeFinished& node) {
  std::string line;
  if (node.votes_size() > 0) {
    for (const auto& vote : node.votes()) {
      line += fmt::format("{}{} ×{}", line.empty() ? "" : ", ", SafeForTerminal(vote.answer()), vote.count());
    }
    line = "votes " + line;
  }
  if (node.has_mean_score()) line += fmt::format("{}mean score {:.2f}", line.empty() ? "" : " · ", node.mean_score());
  if (node.rounds() > 0)
    line += fmt::format("{}{} round{}", line.empty() ? "" : " · ", node.rounds(), node.rounds() == 1 ? "" : "s");
  if (node.hole_count() > 0) line += fmt::format("{}{} lost", line.empty() ? "" : " · ", node.hole_count());
  if (node.tie()) line += line.empty() ? "tie, broken by order" : " · tie, broken by order";
  if (!node.note().empty()) line += (line.empty() ? "" : " · ") + SafeForTerminal(node.note());
  if (!line.empty()) Print(fmt::format("{} {}\n\n", Paint(kBold, SafeForTerminal(path)), line));
}

void LiveView::OnRunFinished(const RunFinished& finished) {
  active_.clear();
  std::string out;
  if (finished.state() == deliberation::v1::RUN_STATE_SUCCEEDED) {
    out = finished.has_answer() ? Paint(kBold, "answer: ") + Paint(kGreen, SafeForTerminal(finished.answer()))
                                : Paint(kYellow, "no answer was found");
    if (finished.best_effort()) out += Paint(kYellow, "  (best so far: the budget ran out)");
    if (finished.hole_count() > 0) out += Paint(kYellow, fmt::format("  ({} calls lost)", finished.hole_count()));
  } else {
    out = Paint(kRed, finished.state() == deliberation::v1::RUN_STATE_CANCELLED
                          ? "cancelled"
                          : "failed: " + SafeForTerminal(finished.message()));
  }
  Print(fmt::format("{}\n{}\n", out, Paint(kDim, LedgerLine(finished.ledger()))));
}

void LiveView::OnEvent(const Event& event) {
  const std::string& path = event.node_path();
  switch (event.event_case()) {
    case Event::kRunStarted:
      return OnRunStarted(event.run_started());
    case Event::kCallStarted: {
      const auto& call = event.call_started();
      active_[KeyOf(path, call.key())] = {SafeForTerminal(path), Who(call.key()), call.role(), "", 0};
      EraseActive();
      return DrawActive();
    }
    case Event::kTokenDelta: {
      const auto it = active_.find(KeyOf(path, event.token_delta().key()));
      if (it == active_.end()) return;
      it->second.text += SafeForTerminal(event.token_delta().text());
      if (it->second.text.size() > 1024) it->second.text.erase(0, it->second.text.size() - 512);
      it->second.tokens += event.token_delta().token_count();
      EraseActive();
      return DrawActive();
    }
    case Event::kCallFinished:
      return OnCallFinished(path, event.call_finished());
    case Event::kCallLost:
      return OnCallLost(path, event.call_lost());
    case Event::kNodeFinished:
      return OnNodeFinished(path, event.node_finished());
    case Event::kBudgetExhausted:
      return Print(Paint(
          kYellow, fmt::format("budget: {} would come to {:g}, the limit is {:g}\n", event.budget_exhausted().unit(),
                               event.budget_exhausted().needed(), event.budget_exhausted().limit())));
    case Event::kRunFinished:
      return OnRunFinished(event.run_finished());
    case Event::kNodeStarted:
    case Event::kHeartbeat:
    case Event::EVENT_NOT_SET:
      return;
  }
}

}  // namespace conclave::cli
