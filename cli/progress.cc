// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <fmt/format.h>

#include <algorithm>

namespace conclave::cli {
namespace {

constexpr int64_t kLiveNs = 100'000'000;
constexpr int64_t kPlainNs = 5'000'000'000;

std::string Duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

}  // namespace

ProgressView::ProgressView(std::FILE* out, bool live, std::vector<std::string> arms, const Clock& clock)
    : out_(out), live_(live), arms_(std::move(arms)), clock_(clock), begin_ns_(clock.NowNs()) {}

std::string ProgressView::Line(const experiment::Progress& p, double seconds) const {
  const double share = p.total == 0 ? 1 : static_cast<double>(p.done) / static_cast<double>(p.total);
  const double rate = seconds > 0 ? static_cast<double>(p.done - first_done_) / seconds : 0;
  const double left = rate > 0 ? static_cast<double>(p.total - p.done) / rate : 0;
  std::string bar;
  for (int i = 0; i < 24; ++i) bar += i < static_cast<int>(share * 24) ? "█" : "░";
  std::string line =
      fmt::format("{} {}/{}  {:.0f} tokens/s", bar, p.done, p.total, seconds > 0 ? p.output_tokens / seconds : 0);
  if (p.done < p.total && rate > 0) line += fmt::format("  {} left", Duration(left));
  return line;
}

void ProgressView::Show(const experiment::Progress& p) {
  const int64_t now = clock_.NowNs();
  if (!began_) {
    began_ = true;
    first_done_ = p.done - 1;
  }
  const bool last = p.done == p.total;
  if (!last && now - shown_ns_ < (live_ ? kLiveNs : kPlainNs)) return;
  shown_ns_ = now;
  const double seconds = static_cast<double>(now - begin_ns_) * 1e-9;
  std::string text = Line(p, seconds) + "\n";
  int lines = 1;
  for (size_t i = 0; live_ && i < arms_.size() && i < p.arms.size(); ++i) {
    const auto& arm = p.arms[i];
    text += fmt::format("  {:<28} {:>6} done  {:>5.1f} % right{}\n", arms_[i], arm.done,
                        arm.done == 0 ? 0.0 : 100.0 * static_cast<double>(arm.correct) / static_cast<double>(arm.done),
                        arm.failed > 0 ? fmt::format("  {} failed", arm.failed) : std::string());
    ++lines;
  }
  if (live_ && lines_ > 0) fmt::print(out_, "\x1b[{}A\x1b[J", lines_);
  fmt::print(out_, "{}", text);
  std::fflush(out_);
  lines_ = lines;
}

void ProgressView::Finish() { lines_ = 0; }

}  // namespace conclave::cli
