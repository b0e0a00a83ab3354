// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "common/status.h"
#include "engine/tokenizer/onig_pattern.h"
#include "engine/tokenizer/pcre.h"
#include "engine/tokenizer/utf8.h"

namespace conclave::engine {
namespace {

using Kind = NormalizerStep::Kind;

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

// Characters that Unicode gained after the tables of tokenizers' normaliser (unicode-normalization-alignments 0.1.12)
// and that canonical forms reorder or compose: to it they are characters that nothing happens to. Found by comparing
// it with Unicode 14 over all code points; of Unicode 15 by the data files.
struct CodePoints {
  char32_t first, last;
};
constexpr std::array<CodePoints, 37> kYoung = {{
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},
    {0xa82c, 0xa82c},   {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
    {0x11938, 0x11938}, {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34},
    {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97},
    {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae},
    {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
}};
// The same for compatibility forms.
constexpr std::array<CodePoints, 9> kYoungCompatible = {{{0x32ff, 0x32ff},
                                                         {0xa7f2, 0xa7f4},
                                                         {0xab69, 0xab69},
                                                         {0x10781, 0x10785},
                                                         {0x10787, 0x107b0},
                                                         {0x107b2, 0x107ba},
                                                         {0x1e030, 0x1e06d},
                                                         {0x1f16c, 0x1f16c},
                                                         {0x1fbf0, 0x1fbf9}}};

bool IsYoung(char32_t c, bool compatible) {
  const auto holds = [c](const CodePoints& range) { return c >= range.first && c <= range.last; };
  return std::any_of(kYoung.begin(), kYoung.end(), holds) ||
         (compatible && std::any_of(kYoungCompatible.begin(), kYoungCompatible.end(), holds));
}

// Text that is not valid UTF-8 stays as it is.
void AppendNormalized(std::string_view text, int options, std::string* out) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options));
  if (size < 0) {
    out->append(text);
    return;
  }
  out->append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  std::free(mapped);  // NOLINT(cppcoreguidelines-no-malloc): utf8proc allocates with malloc
}

// A Unicode normal form. Young characters neither change nor let others pass.
std::string Unicode(std::string_view text, int options) {
  if (IsAscii(text)) return std::string(text);
  std::string out;
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    if (static_cast<uint8_t>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const Utf8Char c = DecodeUtf8(text.substr(i));
    if (c.valid && IsYoung(c.code_point, (options & UTF8PROC_COMPAT) != 0)) {
      if (i > done) AppendNormalized(text.substr(done, i - done), options, &out);
      out.append(text.substr(i, c.bytes));
      done = i + c.bytes;
    }
    i += c.bytes;
  }
  if (done < text.size()) AppendNormalized(text.substr(done), options, &out);
  return out;
}

}  // namespace

struct Normalizer::Compiled {
  std::unique_ptr<Pcre> pattern;
};

Normalizer::Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}
Normalizer::~Normalizer() = default;

absl::StatusOr<std::unique_ptr<Normalizer>> Normalizer::Create(std::vector<NormalizerStep> steps) {
  std::unique_ptr<Normalizer> normalizer(new Normalizer(std::move(steps)));
  for (const NormalizerStep& step : normalizer->steps_) {
    normalizer->compiled_.push_back(nullptr);
    if (step.kind != Kind::kReplace && step.kind != Kind::kReplaceRegex) continue;
    if (step.pattern.empty()) return InvalidArgument("a text to replace must not be empty");
    if (step.kind == Kind::kReplace) continue;
    ASSIGN_OR_RETURN(const std::string pattern, TranslateOnigPattern(step.pattern));
    auto compiled = std::make_unique<Compiled>();
    ASSIGN_OR_RETURN(compiled->pattern, Pcre::Compile(pattern, Pcre::Lines::kMany));
    normalizer->compiled_.back() = std::move(compiled);
  }
  return normalizer;
}

absl::StatusOr<std::string> Normalizer::Replace(size_t step, std::string_view text) const {
  const NormalizerStep& s = steps_[step];
  const auto scratch = Pcre::NewScratch();
  if (scratch == nullptr) return ResourceExhausted("out of memory for replacing text");
  std::string out;
  size_t done = 0, from = 0;
  while (from <= text.size()) {
    MatchRange match = {};
    if (s.kind == Kind::kReplace) {
      match.begin = text.find(s.pattern, from);
      if (match.begin == std::string_view::npos) break;
      match.end = match.begin + s.pattern.size();
    } else {
      ASSIGN_OR_RETURN(const bool found, compiled_[step]->pattern->Find(text, from, scratch.get(), &match));
      if (!found) break;
    }
    out.append(text.substr(done, match.begin - done)).append(s.content);
    if (out.size() > kNormalizedBytesMax)
      return ResourceExhausted("replacing text makes more than {} bytes", kNormalizedBytesMax);
    done = match.end;
    from = match.end > match.begin     ? match.end
           : match.begin < text.size() ? match.begin + DecodeUtf8(text.substr(match.begin)).bytes
                                       : match.begin + 1;
  }
  return out.append(text.substr(done));
}

absl::StatusOr<std::string> Normalizer::Apply(std::string_view text, bool at_start) const {
  std::string out(text);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const NormalizerStep& step = steps_[i];
    switch (step.kind) {
      case Kind::kNfc:
        out = Unicode(out, UTF8PROC_COMPOSE);
        break;
      case Kind::kNfd:
        out = Unicode(out, UTF8PROC_DECOMPOSE);
        break;
      case Kind::kNfkc:
        out = Unicode(out, UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
        break;
      case Kind::kNfkd:
        out = Unicode(out, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
        break;
      case Kind::kPrepend:
        if (!out.empty()) out.insert(0, step.content);
        break;
      case Kind::kPrependUnlessThere:
      case Kind::kPrependUnlessThereAtStart:
        if (step.kind == Kind::kPrependUnlessThereAtStart && !at_start) break;
        if (!out.starts_with(step.content)) out.insert(0, step.content);
        break;
      case Kind::kReplace:
      case Kind::kReplaceRegex: {
        ASSIGN_OR_RETURN(out, Replace(i, out));
        break;
      }
      case Kind::kStripLeft:
        out.erase(0, LeadingWhiteSpace(out));
        break;
      case Kind::kStripRight:
        out.resize(out.size() - TrailingWhiteSpace(out));
        break;
    }
  }
  return out;
}

}  // namespace conclave::engine
