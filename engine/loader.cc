// SPDX-License-Identifier: Apache-2.0
#include "engine/loader.h"

#include <malloc.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <thread>

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
constexpr int32_t kPinnedPagesShare = 2;  // one page of so many may be pinned

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
  if (options.ranks > 1 && options.kernel == "cuda") {
    return Unimplemented("ranks is {}: several ranks on CUDA devices are not supported; take 1, or a kernel of the CPU",
                         options.ranks);
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
  step->pinned_pages_max = static_cast<int32_t>(
      std::min<int64_t>(step->kv_pages / kPinnedPagesShare, step->kv_pages - PagesForContext(context)));
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
  const ModelSize& size = model.ranks[0].bound.size;
  ModelInfo info = DescribeSizes(spec, size, model.costs);
  if (info.name.empty()) info.name = NameOf(options.model_path);
  info.revision = model.checkpoint->Revision();
  info.context_tokens = model.step.context_tokens;
  info.kv_bytes_per_token = page_bytes / kPageTokens;
  info.kernel = model.ranks[0].ops->name();
  info.chat_template = model.tokenizer->chat_template();
  return info;
}

// Of the CPU's threads, those of one rank.
int32_t ThreadsOfRank(const EngineOptions& options) {
  if (options.ranks == 1) return options.threads;
  const auto cores = static_cast<int32_t>(std::thread::hardware_concurrency());
  return std::max(1, (options.threads > 0 ? options.threads : cores) / options.ranks);
}

// Every rank's ops, and the weights of its part.
absl::Status BindRanks(const EngineOptions& options, const ModelSpec& spec, std::span<const Partition> parts,
                       LoadedModel* model) {
  const auto ranks = static_cast<int64_t>(parts.size());
  for (const Partition& part : parts) {
    LoadedRank& rank = model->ranks.emplace_back();
    ASSIGN_OR_RETURN(rank.ops, MakeOps({.kernel = options.kernel, .threads = ThreadsOfRank(options)}));
    BindProgress progress = options.on_load;
    if (progress && ranks > 1) {  // each reads the file once
      progress = [&](int64_t bytes, int64_t total) { options.on_load((part.rank * total + bytes) / ranks, total); };
    }
    ASSIGN_OR_RETURN(rank.bound, BindWeights(*model->checkpoint, spec, part, rank.ops.get(), progress));
  }
  return absl::OkStatus();
}

// The buffers of every rank, and all of them together.
absl::Status MakeDecoders(const ModelSpec& spec, std::span<const Partition> parts,
                          const MakeCommunicators& make_communicators, LoadedModel* model) {
  const StepLoopOptions& step = model->step;
  const DecoderLimits limits = {.tokens_max = step.step_tokens_max,
                                .sequences_max = step.sequences_max,
                                .logit_rows_max = step.logit_rows_max,
                                .kv_pages = step.kv_pages,
                                .page_tokens = step.page_tokens,
                                .context_tokens = step.context_tokens};
  std::vector<std::unique_ptr<Communicator>> communicators;
  if (parts.size() > 1) communicators = make_communicators(static_cast<int32_t>(parts.size()));
  std::vector<RankGroup::Rank> ranks;
  for (size_t r = 0; r < parts.size(); ++r) {
    LoadedRank& rank = model->ranks[r];
    if (!communicators.empty()) rank.communicator = std::move(communicators[r]);
    ASSIGN_OR_RETURN(rank.decoder, Decoder::Create(SpecOfRank(spec, parts[r]), rank.bound.weights, limits,
                                                   rank.ops.get(), rank.communicator.get()));
    ranks.push_back({rank.decoder.get(), rank.communicator.get(), parts[r].vocab});
  }
  std::span<float> host_logits = ranks[0].decoder->host_logits();
  if (ranks.size() > 1) {
    ASSIGN_OR_RETURN(host_logits, model->ranks[0].ops->AllocateHost(int64_t{step.logit_rows_max} * spec.vocab));
  }
  model->group = std::make_unique<RankGroup>(spec, std::move(ranks), host_logits);
  return absl::OkStatus();
}

MemoryPlan PlanOf(const LoadedModel& model, std::span<const int64_t> page_bytes) {
  MemoryPlan plan = {};
  plan.kv_pages = model.step.kv_pages;
  plan.page_tokens = kPageTokens;
  plan.pinned_pages_max = model.step.pinned_pages_max;
  for (size_t r = 0; r < model.ranks.size(); ++r) {
    const Ops& ops = *model.ranks[r].ops;
    const int64_t kv_bytes = page_bytes[r] * model.step.kv_pages;
    const RankMemory& rank =
        plan.ranks.emplace_back(RankMemory{ops.weight_bytes(), kv_bytes, ops.buffer_bytes() - kv_bytes});
    plan.weight_bytes += rank.weight_bytes;
    plan.kv_bytes += rank.kv_bytes;
    plan.workspace_bytes += rank.workspace_bytes;
  }
  return plan;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const EngineOptions& options,
                                                       const MakeCommunicators& make_communicators) {
  RETURN_IF_ERROR(CheckOptions(options));
  auto model = std::make_unique<LoadedModel>();
  ASSIGN_OR_RETURN(model->checkpoint, Checkpoint::Open(options.model_path));
  ASSIGN_OR_RETURN(const ModelSpec spec, ReadModelSpec(*model->checkpoint));
  ASSIGN_OR_RETURN(const std::vector<Partition> parts, PlanPartition(spec, options.ranks));
  ASSIGN_OR_RETURN(model->tokenizer, LoadTokenizer(options, *model->checkpoint, spec));
  model->chat_template = std::make_unique<ChatTemplate>(*model->tokenizer);
  RETURN_IF_ERROR(BindRanks(options, spec, parts, model.get()));

  StepLoopOptions& step = model->step;
  step.step_tokens_max = options.step_tokens_max;
  step.sequences_max = options.sequences_max;
  step.logit_rows_max = options.sequences_max + kExtraLogitRows;
  step.queue_requests_max = options.queue_requests_max;
  step.prefix_reuse = options.prefix_reuse;
  step.page_tokens = kPageTokens;
  std::vector<int64_t> page_bytes;  // of each rank
  for (size_t r = 0; r < parts.size(); ++r) {
    page_bytes.push_back(Decoder::KvPageBytes(SpecOfRank(spec, parts[r]), kPageTokens, *model->ranks[r].ops));
  }
  RETURN_IF_ERROR(PlanKv(options, spec.context_tokens, *std::max_element(page_bytes.begin(), page_bytes.end()), &step));
  RETURN_IF_ERROR(MakeDecoders(spec, parts, make_communicators, model.get()));
  const int64_t all_page_bytes = std::accumulate(page_bytes.begin(), page_bytes.end(), int64_t{0});
  model->costs = MakeCostModel(spec, model->ranks[0].bound.size, all_page_bytes / kPageTokens);
  model->info = Describe(*model, spec, options, all_page_bytes);
  if (model->checkpoint->hf() != nullptr) {
    ASSIGN_OR_RETURN(model->info.sampling, ReadGenerationConfig(*model->checkpoint->hf()));
  }
  model->memory = PlanOf(*model, page_bytes);
  if (!model->ranks[0].ops->uses_sources_in_place()) model->checkpoint.reset();
  malloc_trim(0);  // reading a vocabulary leaves tens of megabytes of freed strings behind
  return model;
}

std::string MemoryPlan::ToString() const {
  constexpr double kMiB = 1 << 20;
  const auto mib = [](int64_t bytes) { return static_cast<double>(bytes) / kMiB; };
  if (ranks.size() <= 1) {
    return fmt::format("weights {:9.1f} MiB\nKV      {:9.1f} MiB: {} pages of {} tokens\nsteps   {:9.1f} MiB\n",
                       mib(weight_bytes), mib(kv_bytes), kv_pages, page_tokens, mib(workspace_bytes));
  }
  std::string text = fmt::format("{} ranks, {} KV pages of {} tokens\n", ranks.size(), kv_pages, page_tokens);
  for (size_t r = 0; r < ranks.size(); ++r) {
    text += fmt::format("rank {:<3} weights {:9.1f} MiB, KV {:9.1f} MiB, steps {:9.1f} MiB\n", r,
                        mib(ranks[r].weight_bytes), mib(ranks[r].kv_bytes), mib(ranks[r].workspace_bytes));
  }
  return text;
}

}  // namespace conclave::engine
