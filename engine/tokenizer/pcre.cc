// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/pcre.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "common/status.h"

namespace conclave::engine {
namespace {

// Backtracking steps one match may take. The built-in patterns need a few per character of the longest run of one
// class; this is enough for runs of tens of millions and ends a pathological pattern within seconds.
constexpr uint32_t kMatchLimit = 200'000'000;

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct CompileContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

std::string ErrorText(int code) {
  char buffer[256];
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(buffer), sizeof(buffer));
  return buffer;
}

pcre2_match_data* DataOf(Pcre::Scratch* scratch) { return reinterpret_cast<pcre2_match_data*>(scratch); }

}  // namespace

struct Pcre::Impl {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::unique_ptr<pcre2_match_context, MatchContextDeleter> context;
};

Pcre::Pcre(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pcre::~Pcre() = default;

void Pcre::ScratchDeleter::operator()(Scratch* scratch) const { pcre2_match_data_free(DataOf(scratch)); }

std::unique_ptr<Pcre::Scratch, Pcre::ScratchDeleter> Pcre::NewScratch() {
  return std::unique_ptr<Scratch, ScratchDeleter>(reinterpret_cast<Scratch*>(pcre2_match_data_create(1, nullptr)));
}

absl::StatusOr<std::unique_ptr<Pcre>> Pcre::Compile(std::string_view pattern, Lines lines) {
  auto impl = std::make_unique<Impl>();
  const std::unique_ptr<pcre2_compile_context, CompileContextDeleter> context(pcre2_compile_context_create(nullptr));
  impl->context.reset(pcre2_match_context_create(nullptr));
  if (context == nullptr || impl->context == nullptr) return ResourceExhausted("out of memory for a pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_match_limit(impl->context.get(), kMatchLimit);
  int error = 0;
  PCRE2_SIZE offset = 0;
  const uint32_t options =
      PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | (lines == Lines::kMany ? uint32_t{PCRE2_MULTILINE} : 0);
  impl->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error, &offset,
                                 context.get()));
  if (impl->code == nullptr) {
    return InvalidArgument("pattern \"{}\" does not compile: {} at offset {}", pattern, ErrorText(error), offset);
  }
  // Without the compiler to machine code (refused by some kernels' policies) matching is slower, not different.
  static_cast<void>(pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE));
  return std::unique_ptr<Pcre>(new Pcre(std::move(impl)));
}

absl::StatusOr<bool> Pcre::Find(std::string_view subject, size_t from, Scratch* scratch, MatchRange* match) const {
  const auto* text = reinterpret_cast<PCRE2_SPTR>(subject.data());
  int found = pcre2_match(impl_->code.get(), text, subject.size(), from, 0, DataOf(scratch), impl_->context.get());
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
    found =
        pcre2_match(impl_->code.get(), text, subject.size(), from, PCRE2_NO_JIT, DataOf(scratch), impl_->context.get());
  }
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    return ResourceExhausted("searching {} bytes of text for a pattern failed: {}", subject.size(), ErrorText(found));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(DataOf(scratch));
  if (range[1] < range[0]) return ResourceExhausted("a pattern matched backwards, which cannot separate text");
  *match = {range[0], range[1]};
  return true;
}

}  // namespace conclave::engine
