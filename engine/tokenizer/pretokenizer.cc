// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/status.h"

namespace conclave::engine {
namespace {

// Backtracking steps one match may take. The built-in patterns need a few per character of the longest run of one
// class; this is enough for runs of tens of millions and ends a pathological pattern within seconds.
constexpr uint32_t kMatchLimit = 200'000'000;

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct ContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

std::string ErrorText(int code) {
  char buffer[256];
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(buffer), sizeof(buffer));
  return buffer;
}

}  // namespace

struct Pretokenizer::Pattern {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::unique_ptr<pcre2_match_context, ContextDeleter> context;
};

Pretokenizer::Pretokenizer(std::vector<Pattern> patterns) : patterns_(std::move(patterns)) {}
Pretokenizer::~Pretokenizer() = default;

absl::StatusOr<const PretokenizerSpec*> FindPretokenizer(std::string_view name) {
  std::string known;
  for (const PretokenizerSpec& spec : PretokenizerSpecs()) {
    std::string_view names = spec.names;
    while (!names.empty()) {
      const size_t end = std::min(names.find(' '), names.size());
      if (names.substr(0, end) == name) return &spec;
      names.remove_prefix(std::min(end + 1, names.size()));
    }
    known += known.empty() ? "" : " ";
    known += spec.names;
  }
  return InvalidArgument("unknown pre-tokenizer \"{}\"; known are: {}", name, known);
}

absl::StatusOr<std::unique_ptr<Pretokenizer>> Pretokenizer::Create(std::span<const std::string_view> patterns) {
  std::vector<Pattern> compiled;
  for (const std::string_view pattern : patterns) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    Pattern p;
    p.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                               PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &offset, nullptr));
    if (p.code == nullptr) {
      return InvalidArgument("split pattern \"{}\" does not compile: {} at offset {}", pattern, ErrorText(error),
                             offset);
    }
    // Without the compiler to machine code (refused by some kernels' policies) matching is slower, not different.
    static_cast<void>(pcre2_jit_compile(p.code.get(), PCRE2_JIT_COMPLETE));
    p.context.reset(pcre2_match_context_create(nullptr));
    if (p.context == nullptr) return ResourceExhausted("out of memory for a split pattern");
    pcre2_set_match_limit(p.context.get(), kMatchLimit);
    compiled.push_back(std::move(p));
  }
  return std::unique_ptr<Pretokenizer>(new Pretokenizer(std::move(compiled)));
}

absl::Status Pretokenizer::Split(std::string_view text, std::vector<uint32_t>* ends) const {
  ends->clear();
  if (text.empty()) return absl::OkStatus();
  ends->push_back(static_cast<uint32_t>(text.size()));
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> match(pcre2_match_data_create(1, nullptr));
  if (match == nullptr) return ResourceExhausted("out of memory for splitting text");
  std::vector<uint32_t> pieces;
  for (const Pattern& pattern : patterns_) {
    pieces.clear();
    uint32_t begin = 0;
    for (const uint32_t end : *ends) {
      // Each piece is a subject of its own: what follows it is not seen by look-aheads.
      const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() + begin);
      const size_t size = end - begin;
      size_t position = 0;  // where to search
      size_t last = 0;      // end of the last piece
      while (position < size) {
        const int found =
            pcre2_match(pattern.code.get(), subject, size, position, 0, match.get(), pattern.context.get());
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found < 0) {
          return ResourceExhausted("splitting {} bytes of text into words failed: {}", size, ErrorText(found));
        }
        const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
        if (range[1] == range[0]) {  // an empty match separates nothing
          position = range[1] + 1;
          continue;
        }
        if (range[0] > last) pieces.push_back(begin + static_cast<uint32_t>(range[0]));
        pieces.push_back(begin + static_cast<uint32_t>(range[1]));
        position = last = range[1];
      }
      if (last < size) pieces.push_back(end);
      begin = end;
    }
    ends->swap(pieces);
  }
  return absl::OkStatus();
}

}  // namespace conclave::engine
