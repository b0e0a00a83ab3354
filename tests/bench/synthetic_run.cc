// SPDX-License-Identifier: Apache-2.0
// Writes a run directory as large as asked, to see how analysis and report scale:
//   synthetic_run DIR [outcomes = 1000000] [arms = 20] && conclave report DIR --anew
// Questions have a difficulty and arms an ability (Rasch); each wrong answer is one of three. Same arguments, same
// bytes.
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/hash.h"

namespace conclave {
namespace {

constexpr uint64_t kSeed = 1;
constexpr uint64_t kDifficulty = 1'000, kRight = 2'000, kWhich = 3'000, kTokens = 4'000, kVote = 5'000,
                   kSeconds = 6'000;  // streams of random numbers
constexpr int kStrata = 12;
constexpr uint64_t kVotes = 8;  // of one member in the last arm, which every other is compared with at equal cost

class Writer {
 public:
  explicit Writer(const std::string& path) : file_(std::fopen(path.c_str(), "wb")) {
    if (file_ == nullptr) std::perror(path.c_str()), std::exit(1);
  }
  ~Writer() { std::fclose(file_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  void Line(const std::string& line) {
    std::fwrite(line.data(), 1, line.size(), file_);
    std::fputc('\n', file_);
  }

 private:
  std::FILE* file_;
};

// A line of votes.jsonl: kVotes answers of one member, right with the same chance.
std::string Votes(uint64_t arm, uint64_t item, double chance, uint64_t flops) {
  std::string votes;
  for (uint64_t v = 0; v < kVotes; ++v) {
    const double draw = PhiloxUniform(kSeed, kVote + v, item);
    const bool right = draw < chance;
    votes += fmt::format(R"({}{{"member":"m{}","sample":{},"outcome":"{}","class":"{}","flops":{},"seconds":{:.4f}}})",
                         v == 0 ? "" : ",", arm, v, right ? "correct" : "wrong",
                         right ? 0 : 1 + static_cast<uint64_t>(30 * draw) % 3, flops,
                         0.02 + 0.08 * PhiloxUniform(kSeed, kSeconds + v, item));
  }
  return fmt::format(R"({{"arm":"arm {}","id":"item-{}","replicate":0,"votes":[{}],"stages":[]}})", arm, item, votes);
}

void WriteRun(const std::string& directory, uint64_t outcomes, uint64_t arms) {
  const uint64_t items = outcomes / arms;
  Writer questions(directory + "/items.jsonl"), rows(directory + "/outcomes.jsonl"),
      transcripts(directory + "/transcripts.jsonl"), votes(directory + "/votes.jsonl");
  for (uint64_t i = 0; i < items; ++i) {
    questions.Line(fmt::format(
        R"({{"id":"item-{0}","question":"What is {0} plus {1}? Explain each step and end with the sum.","answer":"{2}","stratum":"s{3}"}})",
        i, 3 * i, 4 * i, i % kStrata));
  }
  for (uint64_t a = 0; a < arms; ++a) {
    const double ability = 1.5 * static_cast<double>(a) / static_cast<double>(arms);
    const uint64_t calls = a + 1 == arms ? kVotes : 1;
    for (uint64_t i = 0; i < items; ++i) {
      const double difficulty = 4 * PhiloxUniform(kSeed, kDifficulty, i) - 2.5;
      const double chance = 1 / (1 + std::exp(difficulty - ability));
      const bool right = PhiloxUniform(kSeed, kRight + a, i) < chance;
      const double which = PhiloxUniform(kSeed, kWhich + a, i);
      const bool none = !right && which < 0.1;
      const uint64_t answer = 4 * i + (right ? 0 : 1 + static_cast<uint64_t>(3 * which));
      const auto tokens = static_cast<uint64_t>(100 + 400 * PhiloxUniform(kSeed, kTokens + a, i));
      const std::string text = none ? "null" : fmt::format("\"{}\"", answer);
      rows.Line(fmt::format(
          R"({{"arm":"arm {0}","id":"item-{1}","replicate":0,"outcome":"{2}","answer":{3},"gold":"{4}","cluster":null,)"
          R"("stratum":"s{5}","calls":{11},"prompt_tokens":80,"output_tokens":{6},"lost_calls":0,"estimated":false,)"
          R"("cached_tokens":0,"flops":{7},"weight_bytes":{8},"kv_bytes":{9},"seconds":{10:.4f}}})",
          a, i,
          right  ? "correct"
          : none ? "no_answer"
                 : "wrong",
          text, 4 * i, i % kStrata, tokens, tokens * (a + 1) * 2'000'000, tokens * (a + 1) * 1'000'000, tokens * 1'000,
          static_cast<double>(tokens) / 5'000, calls));
      transcripts.Line(fmt::format(
          R"({{"arm":"arm {}","id":"item-{}","replicate":0,"node":"answer","role":"solver","member":"m{}","sample":0,)"
          R"("text":"I add the two numbers digit by digit and find the sum.\n#### {}","answer":{},"score":null}})",
          a, i, a, none ? "?" : fmt::format("{}", answer), text));
      if (calls > 1) votes.Line(Votes(a, i, chance, tokens * (a + 1) * 2'000'000 / calls));
    }
  }
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) {
  const unsigned long long outcomes = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1'000'000;
  const unsigned long long arms = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 20;
  if (argc < 2 || argc > 4 || arms == 0 || outcomes < arms) {
    std::fputs("usage: synthetic_run DIR [outcomes] [arms]\n", stderr);
    return 2;
  }
  std::filesystem::create_directories(argv[1]);
  conclave::WriteRun(argv[1], outcomes, arms);
  return 0;
}
