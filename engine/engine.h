// SPDX-License-Identifier: Apache-2.0
// The inference library's only door. Outside code includes this header and nothing below it.
//
// An Engine owns one model on one device, or split over several ranks, and one step thread, which owns scheduler, KV
// pages, model and device: drain the queue -> plan -> forward -> sample -> push tokens. Every public method is
// thread-safe and does not wait for a step, unless its comment says otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::engine {

using TokenId = int32_t;

// ---- Limits. Beyond one is INVALID_ARGUMENT unless said otherwise.
inline constexpr int32_t kSamplesMax = 64;  // n of one request
inline constexpr int32_t kStopStringsMax = 16;
inline constexpr int32_t kStopStringBytesMax = 256;
inline constexpr int32_t kTopLogprobsMax = 20;
inline constexpr int32_t kLogitBiasMax = 1024;
inline constexpr int32_t kStopTokensMax = 64;
inline constexpr int32_t kSampleIndexMax = 1 << 24;
inline constexpr float kTemperatureMax = 100.0f;
inline constexpr size_t kConstraintBytesMax = 128 << 10;
inline constexpr size_t kTextBytesMax = 64 << 20;  // of one text to tokenize; callers check

struct EngineOptions {
  std::string model_path;             // a GGUF file or a Hugging Face directory
  bool tokenizer_optional = false;    // load a directory without tokenizer.json: token 5 is then the text "<5>"
  std::string kernel = "auto";        // reference | scalar | avx2 | avx512 | cuda | auto (of the CPU)
  int32_t threads = 0;                // of all ranks together, but at least one each; 0: one per core
  int32_t ranks = 1;                  // the model is split into as many parts, computed together; on CPUs only
  int64_t kv_bytes = 256 << 20;       // of each rank, for KV pages; fewer are allocated if no sequences could use more
  int32_t context_tokens_max = 0;     // 0: the model's own, or what kv_bytes holds if that is less
  int32_t sequences_max = 32;         // running together
  int32_t step_tokens_max = 512;      // tokens of one step: decode first, the rest is prefill chunks
  int32_t queue_requests_max = 1024;  // waiting requests; more are RESOURCE_EXHAUSTED
  bool prefix_reuse = true;           // false: what another request computed is never found again, to measure without
  // Told by Create's thread while it loads: bytes of weights that are ready, never fewer than before, of all of them.
  std::function<void(int64_t bytes, int64_t bytes_total)> on_load = {};
};

// ---- Sampling

struct LogitBias {
  TokenId token;
  float bias;  // added to the logit; -100 or less bans
};

struct Sampling {
  float temperature = 1.0f;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;        // 1: off
  float min_p = 0.0f;        // 0: off
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  std::vector<LogitBias> logit_bias;
};

struct ModelInfo {
  std::string name;          // general.name or the file's or directory's name
  std::string family;        // "llama", ..
  std::string quantization;  // "Q4_1" or "mixed Q4_K Q6_K": the formats of the matrices
  std::string revision;      // SHA-256 of metadata, tensor tables and sizes: names these weights
  int32_t layers, hidden, heads, kv_heads, head_dim, feed_forward, vocab;
  int32_t experts, experts_per_token;  // 0 for dense
  int32_t context_tokens;              // what the model was trained for, or the option's lower limit
  int64_t params_total, params_active;
  int64_t weight_bytes;            // of the tensors, as in the file
  int64_t weight_bytes_per_token;  // read once per step by a dense model: matrices and the output head
  int64_t kv_bytes_per_token;
  int64_t flops_per_token;       // 2 x active matrix parameters (attention adds 4 * L * H * Dk per position attended)
  int64_t head_flops_per_token;  // of these, of the output head, which only tokens need whose next one is wanted
  int64_t attention_flops_per_token_and_position;  // of all layers
  // Of the layers, window_layers see the last `window` positions only; the cache keeps all, for every layer. 0: none.
  int32_t window, window_layers;
  std::string kernel;         // the ops backend in use
  std::string chat_template;  // Jinja source, empty if the file has none
  Sampling sampling;          // what the makers recommend (generation_config.json); else the defaults
};

struct Stopping {
  int32_t output_tokens_max = 0;  // 0: up to the context
  std::vector<std::string> stop_strings;
  std::vector<TokenId> stop_tokens;
  bool ignore_end_of_sequence = false;
};

// What a text must be: of the bytes that it is decoded to, from its first token on. End tokens come only where the text
// may end, and where nothing may follow it ends by itself (kStop). A text that meets its limit first is unfinished.
struct Constraint {
  enum class Language : uint8_t {
    kNone,
    kJsonSchema,  // see engine/grammar/json_schema.h for what is read, and how values are written
    kRegex,       // the whole text matches
    kGrammar,     // rules in llama.cpp's notation, from "root" (engine/grammar/ebnf.h)
  };
  Language language = Language::kNone;
  std::string source;  // at most kConstraintBytesMax
};

// INVALID_ARGUMENT CONSTRAINT_INVALID with the place in the source. Needs no model.
absl::Status CheckConstraint(const Constraint& constraint);

// Which experts a token visits; for a dense model only the default is accepted. Part of the prefix-cache key.
struct RoutingPolicy {
  int32_t top_k = 0;  // 0: the model's own, else at most that; the family's own renormalisation is over those chosen
  uint64_t Hash() const;
  friend bool operator==(const RoutingPolicy&, const RoutingPolicy&) = default;
};

// What a token stands for.
struct TokenText {
  std::string bytes;  // in a text; may be parts of a character. Of a hidden one: its name in the checkpoint
  bool hidden;        // adds nothing to a text, as the end of a turn does
};

struct TokenLogprob {
  TokenId token;
  float logprob;  // natural log, of the unmodified distribution
};

// What one token of one layer was routed to, best choice first. Empty in a dense layer.
struct ExpertChoice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};
using RoutingTrace = std::vector<std::vector<ExpertChoice>>;  // [layer][token]

// Choices since the engine started. Layers with experts only, in order: layer_ids[i] is counts[i]'s layer.
struct ExpertCounts {
  std::vector<int32_t> layer_ids;
  std::vector<std::vector<int64_t>> counts;  // [layer][expert]
};

// ---- Generate

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kFailed };

struct GenerateRequest {
  std::vector<TokenId> prompt;  // at least one token
  // Of these, the last `continued_tokens` are the output so far of a sample begun elsewhere: random numbers, penalties,
  // stop strings and output_tokens_max (which counts them) go on from there, so the text is the same; what of it was
  // held back is sent first, and what had ended it ends it. Then `samples` must be 1.
  int32_t continued_tokens = 0;
  int32_t sample_index_first = 0;  // samples are numbered from here
  int32_t samples = 1;             // n sequences that share the prompt's KV
  uint64_t seed = 0;               // text depends on (model, prompt, sampling, seed, sample index) and nothing else
  Sampling sampling;
  Stopping stopping;
  Constraint constraint;
  RoutingPolicy routing;
  int32_t top_logprobs = -1;  // -1: none; 0: the chosen token's; N: and the N best
  int32_t priority = 0;       // higher first; equal: first come
  std::string cache_salt;     // prefixes are shared only between equal salts
  int64_t deadline_ns = 0;    // Clock::NowNs() after which the request is dropped with kDeadlineExceeded; 0: none
};

// What one sample gained in one step.
struct SampleDelta {
  int32_t sample;
  std::string text;  // whole UTF-8 only; held back while it may begin a stop string
  std::vector<TokenId> tokens;
  std::vector<TokenLogprob> logprobs;                   // one per token, when asked for
  std::vector<std::vector<TokenLogprob>> top_logprobs;  // one list per token, when asked for
  std::optional<FinishReason> finished;                 // set on the sample's last delta
  std::string stop_match;                               // the stop string that ended it, if one did
};

// Measured, not estimated. Times in nanoseconds.
struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_prompt_tokens = 0;  // of these, found in the prefix cache or computed by another request
  int64_t output_tokens = 0;         // over all samples
  int64_t flops = 0;
  int64_t saved_flops = 0;        // that cached prompt tokens would have taken; not in flops
  int64_t weight_bytes = 0;       // read, shared over the sequences of each step; of experts only those chosen
  int64_t kv_bytes = 0;           // read and written
  int64_t experts_activated = 0;  // choices of an expert by a token, over all layers
  int64_t queue_ns = 0, prefill_ns = 0, decode_ns = 0;
};

// Receives a request's results on the step thread; must not block. May outlive its creator (shared ownership).
class GenerateSink {
 public:
  virtual ~GenerateSink() = default;
  // The prompt was admitted to a step for the first time.
  virtual void OnStarted(int64_t prompt_tokens, int64_t cached_prompt_tokens) = 0;
  // At most one call per sample and step. False: the reader is slow, pause this request until Resume(id).
  virtual bool OnDelta(SampleDelta delta) = 0;
  // Last call. OK after every sample finished; CANCELLED, DEADLINE_EXCEEDED, INTERNAL (NUMERIC_FAILURE) or UNAVAILABLE
  // (draining, device fault) otherwise. Usage counts the work done in either case.
  virtual void OnDone(const absl::Status& status, const Usage& usage) = 0;
};

using RequestId = uint64_t;

// ---- Score

struct ScoreRequest {
  std::vector<TokenId> prompt;                      // shared prefix, at least one token
  std::vector<std::vector<TokenId>> continuations;  // each at least one token, at most kSamplesMax
  RoutingPolicy routing;
  std::string cache_salt;
};
struct ContinuationScore {
  double logprob;                     // sum, natural log
  std::vector<float> token_logprobs;  // one per continuation token
  bool greedy;                        // every token was the most likely one
};
struct ScoreResult {
  std::vector<ContinuationScore> continuations;
  Usage usage;
};

// ---- Pins: prompts whose KV nothing evicts. All that begins with one finds it, as it finds everything in the cache.

struct PinRequest {
  std::vector<TokenId> prompt;  // at least one token
  RoutingPolicy routing;
  std::string cache_salt;
};
using PinId = uint64_t;  // never given twice by one engine
struct PinResult {
  PinId id = 0;
  int32_t tokens = 0, pages = 0;  // pinned by it; others may pin the same pages
  Usage usage;                    // of computing what was not in the cache
};

// ---- Load

struct EngineLoad {
  int32_t running_sequences, waiting_requests;
  int64_t waiting_tokens;
  int32_t kv_pages_used, kv_pages_total;
  int32_t kv_pages_pinned;  // of those used
  int32_t kv_page_tokens;
  bool draining;
  // Totals since start, for metrics.
  int64_t steps, prompt_tokens, cached_prompt_tokens, output_tokens, requests_done, requests_cancelled, requests_failed,
      preemptions;
};

// ---- Text

// A message of a chat, rendered by the model's own template. Its text can never become a special token.
struct ChatMessage {
  std::string role;
  std::string content;
};

// A chat as the model's template writes it.
struct ChatPrompt {
  std::string text;
  std::vector<TokenId> tokens;
};

struct RankMemory {
  int64_t weight_bytes, kv_bytes, workspace_bytes;
};
struct MemoryPlan {
  int64_t weight_bytes, kv_bytes, workspace_bytes;  // of all ranks
  int32_t kv_pages, page_tokens;                    // every rank has all pages, of its own heads
  // Of these, at most so many are pinned: half, and never those that the longest sequence needs. So whoever waits for
  // pages waits for others that run, not for pins.
  int32_t pinned_pages_max;
  std::vector<RankMemory> ranks;
  std::string ToString() const;  // for the log, one line per part, or per rank of several
};

// A tokenizer and chat template without weights: of a GGUF file (vocabulary-only ones too), a Hugging Face directory
// or the tokenizer.json in it. Thread-safe.
class Vocabulary {
 public:
  // FAILED_PRECONDITION MODEL_FILE_INVALID, UNIMPLEMENTED for a tokenizer kind it does not know (named), NOT_FOUND.
  static absl::StatusOr<std::unique_ptr<Vocabulary>> Load(const std::string& path);
  ~Vocabulary();

  enum class SpecialTokens : uint8_t { kAsText, kParse };
  // RESOURCE_EXHAUSTED where the checkpoint's split pattern takes too long on this text.
  absl::StatusOr<std::vector<TokenId>> Tokenize(std::string_view text, SpecialTokens special,
                                                bool add_begin_of_sequence) const;
  std::string Detokenize(std::span<const TokenId> tokens) const;
  // The chat template with its variables as one JSON object: messages, add_generation_prompt, tools, whatever the
  // template reads. The names of special tokens are there anyway. Errors as of Engine::ApplyChatTemplate.
  absl::StatusOr<ChatPrompt> ApplyChatTemplate(std::string_view variables_json, int64_t now_unix_seconds) const;

 private:
  class Impl;
  explicit Vocabulary(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What a config.json of Hugging Face's, or the one in a directory, tells without weights: sizes and costs of a model
// whose weights take `bits_per_weight` each, or what the file says of their type and quantisation, and whose cache
// holds halves. The same of a GGUF file without reading its weights, which take what they take in it together. Errors
// as of Engine::Create.
absl::StatusOr<ModelInfo> PlanModel(const std::string& path, std::optional<double> bits_per_weight = {});

// The same of the rank, of several, that holds most. INVALID_ARGUMENT or UNIMPLEMENTED for ranks that the model cannot
// be split over.
struct RankPlan {
  int64_t weight_bytes, kv_bytes_per_token;
};
absl::StatusOr<RankPlan> PlanRank(const std::string& config_path, std::optional<double> bits_per_weight, int32_t ranks);

class Engine {
 public:
  // Maps the file, checks and binds every tensor, repacks weights, allocates all big memory and starts the step thread.
  // Errors name file and tensor; FAILED_PRECONDITION MODEL_FILE_INVALID for a bad file.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options);
  // Stops the step thread; requests still running end with UNAVAILABLE.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const ModelInfo& info() const;
  const MemoryPlan& memory() const;

  // Text to ids and back. kParse lets special tokens in the text become themselves: never for user text.
  using SpecialTokens = Vocabulary::SpecialTokens;
  absl::StatusOr<std::vector<TokenId>> Tokenize(std::string_view text, SpecialTokens special,
                                                bool add_begin_of_sequence) const;
  std::string Detokenize(std::span<const TokenId> tokens) const;
  // Of an id outside the vocabulary: hidden, without a name.
  TokenText TextOf(TokenId token) const;
  // INVALID_ARGUMENT TEMPLATE_LIMIT or the template's own error, with line and column.
  // `now_unix_seconds` is what strftime_now sees.
  using ChatPrompt = engine::ChatPrompt;
  absl::StatusOr<ChatPrompt> ApplyChatTemplate(std::span<const ChatMessage> messages, bool add_generation_prompt,
                                               int64_t now_unix_seconds) const;
  // The tokens that end a text unless ignore_end_of_sequence.
  std::span<const TokenId> end_tokens() const;

  // Validates (INVALID_ARGUMENT PROMPT_TOO_LONG, CONSTRAINT_INVALID with the place in the source, ..), enqueues. A new
  // constraint is compiled here, within limits: milliseconds. RESOURCE_EXHAUSTED OVERLOADED when the queue is full,
  // UNAVAILABLE DRAINING after Drain. On error the sink is never called.
  absl::StatusOr<RequestId> Submit(GenerateRequest request, std::shared_ptr<GenerateSink> sink);
  // The request ends with CANCELLED at the start of the next step and its KV is free by its end. Unknown or finished
  // ids are ignored.
  void Cancel(RequestId id);
  // Continues a request that its sink paused.
  void Resume(RequestId id);

  // `done` is called once, on the step thread.
  absl::Status Score(ScoreRequest request, std::function<void(absl::StatusOr<ScoreResult>)> done);

  // Computes what is missing of the prompt and pins it until Unpin. `done` is called once, on the step thread. Errors,
  // here or there: as of Submit; RESOURCE_EXHAUSTED PREFIX_LIMIT beyond MemoryPlan::pinned_pages_max,
  // FAILED_PRECONDITION CAPABILITY_MISSING without prefix_reuse.
  absl::Status Pin(PinRequest request, std::function<void(absl::StatusOr<PinResult>)> done);
  // At the start of the next step. Unknown ids are ignored.
  void Unpin(PinId id);

  EngineLoad load() const;
  // Refuses new requests; `idle()` turns true when the running ones have finished.
  void Drain();
  bool idle() const;

  // For inspection, blocking, on an otherwise idle engine: logits of every position. out [T, V].
  absl::Status Logits(std::span<const TokenId> tokens, std::vector<float>* out, const RoutingPolicy& routing = {});
  // What every token is routed to, the same way. FAILED_PRECONDITION CAPABILITY_MISSING for a dense model.
  absl::StatusOr<RoutingTrace> Routing(std::span<const TokenId> tokens, const RoutingPolicy& routing);
  // Empty for a dense model.
  ExpertCounts expert_counts() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::engine
