// SPDX-License-Identifier: Apache-2.0
// The table of splits by name. Patterns are data of the models: GPT-2's encoder.py, and the pre_tokenizer sections of
// the Hugging Face tokenizer.json files of the models named beside them.
#include <array>

#include "engine/tokenizer/onig_pattern.h"
#include "engine/tokenizer/pretokenizer.h"

namespace conclave::engine {
namespace {

#define WS CONCLAVE_WHITE_SPACE  // inside a class
// White space that is not the last before a word (that one belongs to the word), then any.
#define SPACES "[" WS "]+(?![^" WS "])|[" WS "]+"
#define LINE_ENDS "[" WS "]*[\\r\\n]+"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define OTHER_SIGNS " ?[^" WS "\\p{L}\\p{N}]+"

constexpr std::string_view kGpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|" OTHER_SIGNS "|" SPACES;
constexpr std::string_view kLlama3 =
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" OTHER_SIGNS "[\\r\\n]*|" LINE_ENDS "|" SPACES;
constexpr std::string_view kQwen2 =
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" OTHER_SIGNS "[\\r\\n]*|" LINE_ENDS "|" SPACES;
constexpr std::string_view kQwen35 = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS
                                                  "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINE_ENDS "|" SPACES;
constexpr std::string_view kSeedCoder =
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" WS "\\p{L}\\p{N}\\r\\n]+|" LINE_ENDS "|" SPACES;
constexpr std::string_view kBailing = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" WS
                                      "\\p{L}\\p{N}]++[\\r\\n]*|[" WS "]*[\\r\\n]|" SPACES;

// o200k and its kin: words end where lower case turns to upper.
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define CASED_TAIL OTHER_SIGNS "[\\r\\n/]*|" LINE_ENDS "|" SPACES
constexpr std::string_view kTekken = LEAD UPPER "*" LOWER "+|" LEAD UPPER "+" LOWER "*|\\p{N}|" CASED_TAIL;
constexpr std::string_view kGpt4o =
    LEAD UPPER "*" LOWER "+" CONTRACTIONS "?|" LEAD UPPER "+" LOWER "*" CONTRACTIONS "?|\\p{N}{1,3}|" CASED_TAIL;

constexpr std::string_view kDigit = "\\p{N}";
constexpr std::string_view kDigits = "\\p{N}+";
constexpr std::string_view kDigits3 = "\\p{N}{1,3}";
constexpr std::string_view kAsciiDigits3 = "[0-9][0-9][0-9]";
constexpr std::string_view kLineEnd = "[\\r\\n]";
constexpr std::string_view kFalconSigns = "[\\p{P}$+<=>^~|`]+";
constexpr std::string_view kDefaultSigns = "[\\p{P}$+<=>^~|]+";
constexpr std::string_view kBloom = " ?[^(" WS "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+";

constexpr std::string_view kDeepSeekHan = "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+";
constexpr std::string_view kDeepSeekCoderWord = "[" WS "]?\\p{L}+";
constexpr std::string_view kDeepSeekCoderSigns = "[" WS "]?\\p{P}+";
constexpr std::string_view kDeepSeekLlmSigns =
    "[" WS "]?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+";
constexpr std::string_view kTrailingSpace = "[" WS "]+$";
// Letters of the scripts with case.
#define CASED_LETTERS                                                                                      \
  "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}"          \
  "\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{1fdb}"  \
  "\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}"          \
  "\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"        \
  "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}"        \
  "\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-"         \
  "\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}"         \
  "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}"        \
  "\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-" \
  "\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}"          \
  "\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-"         \
  "\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-"        \
  "\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-"       \
  "\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"         \
  "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
constexpr std::string_view kDeepSeekLlmWord = "[" WS "]?[" CASED_LETTERS "]+";
constexpr std::string_view kDeepSeek3Han = "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+";
constexpr std::string_view kDeepSeek3 =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINE_ENDS "|" SPACES;

}  // namespace

std::string_view Gpt2Pattern() { return kGpt2; }

std::span<const PretokenizerSpec> PretokenizerSpecs() {
  static const auto* const specs = new std::array<PretokenizerSpec, 19>{{
      {.names = "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jais trillion granite-docling exaone4 gigachat "
                "a.x-4.0 mellum",
       .patterns = {kGpt2}},
      {.names = "mpt olmo", .patterns = {kGpt2}, .normalize_nfc = true},
      {.names = "smollm starcoder refact command-r codeshell exaone minerva-7b", .patterns = {kDigit, kGpt2}},
      {.names = "default", .patterns = {kDefaultSigns, kGpt2, kDigits, kAsciiDigits3}},
      {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
       .patterns = {kLlama3},
       .whole_words_first = true,
       .add_bos = true},
      {.names = "dbrx smaug-bpe glm4 chatglm-bpe", .patterns = {kLlama3}},
      {.names = "qwen2 deepseek-r1-qwen megrez", .patterns = {kQwen2}, .normalize_nfc = true},
      {.names = "stablelm2 hunyuan grok-2", .patterns = {kQwen2}},
      {.names = "qwen35", .patterns = {kQwen35}, .normalize_nfc = true},
      {.names = "seed-coder", .patterns = {kSeedCoder}},
      {.names = "bailingmoe bailingmoe2 llada-moe", .patterns = {kBailing}},
      {.names = "tekken", .patterns = {kTekken}, .whole_words_first = true, .add_bos = true},
      {.names = "gpt-4o llama4 kanana2", .patterns = {kGpt4o}},
      {.names = "deepseek-llm",
       .patterns = {kLineEnd, kDeepSeekLlmWord, kDeepSeekLlmSigns, kTrailingSpace, kDeepSeekHan, kDigits}},
      {.names = "deepseek-coder",
       .patterns = {kLineEnd, kDeepSeekCoderWord, kDeepSeekCoderSigns, kDeepSeekHan, kDigit}},
      {.names = "deepseek-v3 hunyuan-dense joyai-llm", .patterns = {kDigits3, kDeepSeek3Han, kDeepSeek3}},
      {.names = "falcon", .patterns = {kFalconSigns, kGpt2, kAsciiDigits3}},
      {.names = "bloom poro-chat gpt3-finnish", .patterns = {kBloom}},
      {.names = "viking", .patterns = {kBloom, kDigit}},
  }};
  return *specs;
}

}  // namespace conclave::engine
