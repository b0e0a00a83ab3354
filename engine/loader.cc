// SPDX-License-Identifier: Apache-2.0
#include "engine/loader.h"

#include <malloc.h>

#include <algorithm>
#include <filesystem>

#include "common/status.h"
#include "engine/describe.h"
#include "engine/generation_config.h"
#include "engine/tokenizer/read_tokenizer.h"

namespace conclave::engine {
namespace {

// A multiple of what wide kernels want; short enough that little of a shared prefix is computed again.
constexpr int32_t kPageTokens = 32;
// Positions of one step whose logits are wanted beyond one per sequence: for scores and inspection.
constexpr int32_t kExtraLogitRows = 32;
constexpr int32_t kSequencesMax = 1024;
constexpr int32_t kStepTokensMax = 1 << 16;
constexpr int64_t kKvPagesMax = 1 << 24;

absl::Status CheckOptions(const EngineOptions& options) {
  if (options.sequences_max < 1 || options.sequences_max > kSequencesMax) {
    return InvalidArgument("sequences_max is {}: must be in [1, {}]", options.sequences_max, kSequencesMax);
  }
  if (options.step_tokens_max <= options.sequences_max || options.step_tokens_max > kStepTokensMax) {
    return InvalidArgument("step_tokens_max is {}: must be in ({}, {}], above sequences_max", options.step_tokens_max,
                           options.sequences_max, kStepTokensMax);
  }
  if (options.context_tokens_max < 0 || options.queue_requests_max < 1 || options.kv_bytes < 1 || options.threads < 0) {
    return InvalidArgument(
        "context_tokens_max {} and threads {} must not be negative, queue_requests_max {} and kv_bytes {} positive",
        options.context_tokens_max, options.threads, options.queue_requests_max, options.kv_bytes);
  }
  return absl::OkStatus();
}

// One page more than the longest sequence fills: for the copy that a fork makes of its last one.
int64_t PagesForContext(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens + 1; }

// Pages and context. An explicit context must fit; the model's own is cut to what does.
absl::Status PlanKv(const EngineOptions& options, int32_t trained_context, int64_t page_bytes, StepLoopOptions* step) {
  const int64_t affordable = options.kv_bytes / page_bytes;
  int64_t context = trained_context;
  if (options.context_tokens_max > 0) context = std::min<int64_t>(context, options.context_tokens_max);
  if (PagesForContext(context) > affordable) {
    const int64_t holds = (affordable - 1) * kPageTokens;
    if (options.context_tokens_max > 0 || holds < kPageTokens) {
      return ResourceExhausted("kv_bytes {} holds {} tokens: a context of {} needs {} bytes", options.kv_bytes,
                               std::max<int64_t>(holds, 0), context, PagesForContext(context) * page_bytes);
    }
    context = holds;
  }
  // More pages than all sequences at full length could hold would never be used.
  const int64_t useful = options.sequences_max * PagesForContext(context);
  step->context_tokens = static_cast<int32_t>(context);
  step->kv_pages = static_cast<int32_t>(std::min<int64_t>({affordable, useful, kKvPagesMax}));
  return absl::OkStatus();
}

// A file without its extension; a directory's name may hold dots ("Qwen2.5-7B").
std::string NameOf(const std::string& model_path) {
  std::filesystem::path path = std::filesystem::path(model_path).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  std::error_code ignored;
  return (std::filesystem::is_directory(path, ignored) ? path.filename() : path.stem()).string();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const EngineOptions& options, const Checkpoint& checkpoint,
                                                         const ModelSpec& spec) {
  if (options.tokenizer_optional && !HasTokenizer(checkpoint)) return NumbersAsTokens(*checkpoint.hf(), spec.vocab);
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, ReadTokenizer(checkpoint));
  if (tokenizer->vocab_size() > spec.vocab) {
    return FailedPrecondition("MODEL_FILE_INVALID {}: the tokenizer has {} tokens, the embedding {} rows",
                              options.model_path, tokenizer->vocab_size(), spec.vocab);
  }
  return tokenizer;
}

ModelInfo Describe(const LoadedModel& model, const ModelSpec& spec, const EngineOptions& options, int64_t page_bytes) {
  const ModelSize& size = model.bound.size;
  ModelInfo info = DescribeSizes(spec, size, model.costs);
  if (info.name.empty()) info.name = NameOf(options.model_path);
  info.revision = model.checkpoint->Revision();
  info.context_tokens = model.step.context_tokens;
  info.kv_bytes_per_token = page_bytes / kPageTokens;
  info.kernel = model.ops->name();
  info.chat_template = model.tokenizer->chat_template();
  return info;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const EngineOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  auto model = std::make_unique<LoadedModel>();
  ASSIGN_OR_RETURN(model->checkpoint, Checkpoint::Open(options.model_path));
  ASSIGN_OR_RETURN(ModelSpec spec, ReadModelSpec(*model->checkpoint));
  ASSIGN_OR_RETURN(model->tokenizer, LoadTokenizer(options, *model->checkpoint, spec));
  model->chat_template = std::make_unique<ChatTemplate>(*model->tokenizer);
  ASSIGN_OR_RETURN(model->ops, MakeOps({.kernel = options.kernel, .threads = options.threads}));
  ASSIGN_OR_RETURN(model->bound, BindWeights(*model->checkpoint, spec, model->ops.get(), options.on_load));

  StepLoopOptions& step = model->step;
  step.step_tokens_max = options.step_tokens_max;
  step.sequences_max = options.sequences_max;
  step.logit_rows_max = options.sequences_max + kExtraLogitRows;
  step.queue_requests_max = options.queue_requests_max;
  step.page_tokens = kPageTokens;
  const int64_t page_bytes = Decoder::KvPageBytes(spec, kPageTokens, *model->ops);
  RETURN_IF_ERROR(PlanKv(options, spec.context_tokens, page_bytes, &step));
  ASSIGN_OR_RETURN(model->decoder, Decoder::Create(spec, model->bound.weights,
                                                   {.tokens_max = step.step_tokens_max,
                                                    .sequences_max = step.sequences_max,
                                                    .logit_rows_max = step.logit_rows_max,
                                                    .kv_pages = step.kv_pages,
                                                    .page_tokens = step.page_tokens,
                                                    .context_tokens = step.context_tokens},
                                                   model->ops.get()));
  model->costs = MakeCostModel(spec, model->bound.size, page_bytes / kPageTokens);
  model->info = Describe(*model, spec, options, page_bytes);
  if (model->checkpoint->hf() != nullptr) {
    ASSIGN_OR_RETURN(model->info.sampling, ReadGenerationConfig(*model->checkpoint->hf()));
  }
  const int64_t kv_bytes = page_bytes * step.kv_pages;
  model->memory = {.weight_bytes = model->ops->weight_bytes(),
                   .kv_bytes = kv_bytes,
                   .workspace_bytes = model->ops->buffer_bytes() - kv_bytes,
                   .kv_pages = step.kv_pages,
                   .page_tokens = kPageTokens};
  if (!model->ops->uses_sources_in_place()) model->checkpoint.reset();
  malloc_trim(0);  // reading a vocabulary leaves tens of megabytes of freed strings behind
  return model;
}

std::string MemoryPlan::ToString() const {
  constexpr double kMiB = 1 << 20;
  return fmt::format("weights {:9.1f} MiB\nKV      {:9.1f} MiB: {} pages of {} tokens\nsteps   {:9.1f} MiB\n",
                     static_cast<double>(weight_bytes) / kMiB, static_cast<double>(kv_bytes) / kMiB, kv_pages,
                     page_tokens, static_cast<double>(workspace_bytes) / kMiB);
}

}  // namespace conclave::engine
