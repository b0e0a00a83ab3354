// SPDX-License-Identifier: Apache-2.0
// What a constraint costs per token with a vocabulary of 151,936 (Qwen's size): CONCLAVE_MODEL may name a GGUF file
// whose tokens are taken instead of made-up ones.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "engine/format/gguf.h"
#include "engine/grammar/constraint.h"
#include "engine/sampler/sampler.h"
#include "engine/tokenizer/read_tokenizer.h"

namespace conclave::engine::grammar {
namespace {

// Words of syllables with and without a space before them, in three cases, with endings, digits and punctuation, and
// characters of several scripts: many share their beginnings, as real ones do.
std::vector<std::string> MadeUpTokens() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (int i = 0; i < 1000; ++i) tokens.push_back(std::to_string(i));
  const char* marks[] = {"\"",   "\",", "\":", "{\"", "\"}", "},",   "}]", "\\n",
                         "\\\"", "()",  ");",  "//",  "\n",  "\n\n", " = "};
  for (const char* mark : marks) {
    for (const char* other : marks) tokens.push_back(std::string(mark) + other);
  }
  const char* syllables[] = {"a",  "ber", "con", "de",  "er", "fi", "gra", "hi",   "in", "ja",  "ka", "le",
                             "mo", "ne",  "or",  "pre", "qu", "re", "st",  "tion", "un", "ver", "wa", "xi",
                             "ya", "zo",  "é",   "ü",   "ни", "да", "漢",  "字",   "한", "国"};
  std::mt19937 random(1);
  while (tokens.size() < 151'936) {
    std::string word = random() % 2 == 0 ? " " : "";
    for (uint32_t i = 0; i <= random() % 4; ++i) word += syllables[random() % std::size(syllables)];
    if (random() % 8 == 0) word += marks[random() % std::size(marks)];
    tokens.push_back(std::move(word));
  }
  return tokens;
}

struct Vocabulary {
  std::vector<std::string> tokens;
  std::shared_ptr<const VocabularyTrie> trie;
};

const Vocabulary& Tokens() {
  static const auto* vocabulary = [] {
    auto* v = new Vocabulary;
    const char* model = std::getenv("CONCLAVE_MODEL");  // NOLINT(concurrency-mt-unsafe): before any thread
    if (model != nullptr) {
      const auto file = GgufFile::Open(model);
      const auto tokenizer = ReadTokenizer(**file);
      for (TokenId i = 0; i < (*tokenizer)->vocab_size(); ++i) {
        v->tokens.emplace_back((*tokenizer)->IsSpecial(i) ? "" : (*tokenizer)->TokenBytes(i));
      }
    } else {
      v->tokens = MadeUpTokens();
    }
    const std::vector<std::string_view> views(v->tokens.begin(), v->tokens.end());
    const TokenId end = 0;
    v->trie = std::make_shared<VocabularyTrie>(views, std::span(&end, 1));
    return v;
  }();
  return *vocabulary;
}

constexpr const char* kPlan = R"({"type":"object","properties":{"strategy":{"enum":["direct","induction","cases"]},
  "subgoals":{"type":"array","items":{"type":"object","properties":{"id":{"type":"integer"},"statement":{"type":"string"},
  "depends_on":{"type":"array","items":{"type":"integer"}}},"required":["id","statement","depends_on"]}},
  "confidence":{"type":"number","minimum":0,"maximum":1}},"required":["strategy","subgoals","confidence"]})";
constexpr const char* kText =
    R"({"strategy": "induction", "subgoals": [{"id": 1, "statement": "The base case holds for n = 0, as one sees.",
 "depends_on": []}, {"id": 2, "statement": "Suppose that it holds for n; then for n + 1.", "depends_on": [1]}], "confidence": 0.85})";

// The text's tokens, the longest first that fits.
std::vector<TokenId> Spelled(std::string_view text) {
  std::unordered_map<std::string_view, TokenId> ids;
  for (size_t i = 0; i < Tokens().tokens.size(); ++i) ids.try_emplace(Tokens().tokens[i], static_cast<TokenId>(i));
  std::vector<TokenId> result;
  while (!text.empty()) {
    size_t length = std::min<size_t>(text.size(), 24);
    while (length > 1 && !ids.contains(text.substr(0, length))) --length;
    result.push_back(ids.at(text.substr(0, length)));
    text.remove_prefix(length);
  }
  return result;
}

void BM_Trie(benchmark::State& state) {
  const std::vector<std::string_view> views(Tokens().tokens.begin(), Tokens().tokens.end());
  for (auto _ : state) {
    const VocabularyTrie trie(views, {});
    benchmark::DoNotOptimize(trie.num_nodes());
  }
  state.counters["nodes"] = Tokens().trie->num_nodes();
}
BENCHMARK(BM_Trie)->Unit(benchmark::kMillisecond);

void BM_Compile(benchmark::State& state, Language language, const char* source) {
  Tokens();
  for (auto _ : state) {
    const auto constraint = Constraint::Create(language, source, Tokens().trie);
    benchmark::DoNotOptimize(constraint->get());
  }
}
BENCHMARK_CAPTURE(BM_Compile, plan, Language::kJsonSchema, kPlan)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Compile, any_json, Language::kJsonSchema, "{}")->Unit(benchmark::kMicrosecond);

// Mask and step of every token of a text; `warm`: after others under the same constraint.
void BM_Text(benchmark::State& state, Language language, const char* source, const char* text, bool warm) {
  const std::vector<TokenId> tokens = Spelled(text);
  auto constraint = *Constraint::Create(language, source, Tokens().trie);
  double worst = 0;
  for (auto _ : state) {
    if (!warm) {
      state.PauseTiming();
      constraint = *Constraint::Create(language, source, Tokens().trie);
      state.ResumeTiming();
    }
    ConstraintMatcher matcher(constraint);
    for (const TokenId token : tokens) {
      const auto begin = std::chrono::steady_clock::now();
      const auto mask = matcher.Allowed();
      benchmark::DoNotOptimize((*mask)->data());
      if (!matcher.Append(token).ok()) state.SkipWithError("the text breaks the constraint");
      worst = std::max(worst, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
  }
  state.counters["per_token"] = benchmark::Counter(
      static_cast<double>(tokens.size()), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  if (!warm) state.counters["worst"] = worst;
}
BENCHMARK_CAPTURE(BM_Text, plan_first, Language::kJsonSchema, kPlan, kText, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Text, plan_warm, Language::kJsonSchema, kPlan, kText, true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Text, any_json_first, Language::kJsonSchema, "{}", kText, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Text, any_json_warm, Language::kJsonSchema, "{}", kText, true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Text, counted_first, Language::kJsonSchema, R"({"type":"string","maxLength":300})",
                  "\"The base case holds for n = 0, as one sees.\"", false)
    ->Unit(benchmark::kMicrosecond);

// What the sampler does with a mask, over the same without.
void BM_Sample(benchmark::State& state, const char* prefix) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(Tokens().tokens.size());
  for (float& x : logits) x = normal(random);
  const auto constraint = *Constraint::Create(Language::kJsonSchema, kPlan, Tokens().trie);
  ConstraintMatcher matcher(constraint);
  if (prefix != nullptr && !matcher.AppendBytes(prefix).ok()) state.SkipWithError("the text breaks the constraint");
  const TokenMask mask = *matcher.Allowed();
  const SamplerParams params = {.temperature = 0};
  SamplerWorkspace workspace;
  for (auto _ : state) {
    SampleInput input = {.logits = logits, .params = &params};
    if (prefix != nullptr) input.allowed = *mask;
    benchmark::DoNotOptimize(SampleToken(input, &workspace)->token);
  }
}
BENCHMARK_CAPTURE(BM_Sample, free, nullptr)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, few_allowed, "{\"")->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, most_allowed, R"({"strategy":"cases","subgoals":[{"id":1,"statement":"x)")
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace conclave::engine::grammar

BENCHMARK_MAIN();
