// SPDX-License-Identifier: Apache-2.0
// What a computed step means for its requests: tokens, scores, ends.
#include <algorithm>

#include "common/check.h"
#include "common/status.h"
#include "engine/sampler/logit_math.h"
#include "engine/sampler/sampler.h"
#include "engine/step_loop.h"

namespace conclave::engine {

std::span<const float> StepLoop::LogitRow(int32_t row) const {
  const size_t vocab = model_->spec().vocab;
  return logits_.subspan(row * vocab, vocab);
}

void StepLoop::Harvest(const Work& work, int32_t first_row, int64_t now_ns) {
  Sequence* sequence = work.sequence;
  if (sequence->done) return;  // ended by a batch-mate's report
  if (options_.prefix_reuse) {
    sequence->table.PublishFull(&pool_, sequence->prefix());
    // Of a prompt also what fills no page; of an output when it ends.
    const bool of_prompt = work.tokens > 1 || sequence->request->first_token_ns == 0;
    if (of_prompt) sequence->table.PublishTail(&pool_, sequence->prefix());
  }
  switch (sequence->request->kind) {
    case Request::Kind::kGenerate:
      if (work.logit_rows > 0) HarvestGenerate(sequence, LogitRow(first_row), now_ns);
      return;
    case Request::Kind::kScore:
      HarvestScore(work, first_row);
      break;
    case Request::Kind::kLogits:
      HarvestLogits(work, first_row);
      break;
    case Request::Kind::kPin:
      if (sequence->table.tokens() == sequence->known()) sequence->request->failure = KeepPinned(*sequence);
      break;
  }
  if (sequence->table.tokens() == sequence->known()) FinishSequence(sequence);
}

void StepLoop::HarvestGenerate(Sequence* sequence, std::span<const float> logits, int64_t now_ns) {
  Request* request = sequence->request;
  if (request->first_token_ns == 0) {
    request->first_token_ns = now_ns;
    request->usage.prefill_ns = now_ns - request->started_ns;
  }
  // The samples that were waiting for this prompt share its pages and its logits from here on.
  std::vector<std::unique_ptr<Sequence>> followers = std::move(sequence->followers);
  sequence->followers.clear();
  for (auto& follower : followers) follower->table = sequence->table.Fork(&pool_);
  SampleNext(sequence, logits, now_ns);
  for (auto& follower : followers) {
    Sequence* forked = follower.get();
    running_.push_back(std::move(follower));
    if (forked->done) continue;
    SampleNext(forked, logits, now_ns);
  }
}

void StepLoop::SampleNext(Sequence* sequence, std::span<const float> logits, int64_t now_ns) {
  Request* request = sequence->request;
  SampleDelta delta;
  delta.sample = sequence->sample;
  if (sequence->output->EndedBefore(&delta)) {
    request->sink->OnDelta(std::move(delta));
    return FinishSequence(sequence);
  }
  const bool last = sequence->known() + 1 >= sequence->tokens_max;
  const absl::StatusOr<TokenId> token = sequence->output->Next(logits, last, &sampler_workspace_, &delta);
  if (token.ok()) {
    sequence->tokens.push_back(*token);
    sequence->logits_from = sequence->known() - 1;
    ExtendPageKeys(request->root, sequence->tokens, options_.page_tokens, &sequence->keys);
    ++request->usage.output_tokens;
    ++totals_.output_tokens;
  } else {
    if (request->failure.ok()) request->failure = token.status();
    delta.finished = FinishReason::kFailed;
  }
  request->usage.decode_ns = now_ns - request->first_token_ns;
  const bool finished = delta.finished.has_value();
  if (!request->sink->OnDelta(std::move(delta))) request->paused = true;
  if (finished) FinishSequence(sequence);
}

void StepLoop::HarvestScore(const Work& work, int32_t first_row) {
  Sequence* sequence = work.sequence;
  ContinuationScore& score = sequence->score;
  const int32_t begin = sequence->table.tokens() - work.logit_rows;  // first position with logits
  for (int32_t i = 0; i < work.logit_rows; ++i) {
    const std::span<const float> logits = LogitRow(first_row + i);
    const TokenId next = sequence->targets[begin + i - sequence->logits_from];
    const absl::StatusOr<double> logprob = LogprobOf(logits, next);
    if (!logprob.ok()) {
      if (sequence->request->failure.ok()) sequence->request->failure = logprob.status();
      return;
    }
    score.logprob += *logprob;
    score.token_logprobs.push_back(static_cast<float>(*logprob));
    score.greedy = score.greedy && FindPeak(logits).index == static_cast<size_t>(next);
  }
}

void StepLoop::HarvestLogits(const Work& work, int32_t first_row) {
  const size_t vocab = model_->spec().vocab;
  const size_t begin = work.sequence->table.tokens() - work.logit_rows;
  for (int32_t i = 0; i < work.logit_rows; ++i) {
    const std::span<const float> row = LogitRow(first_row + i);
    std::copy(row.begin(), row.end(), work.sequence->request->logits.begin() + (begin + i) * vocab);
  }
}

absl::Status StepLoop::KeepPinned(const Sequence& sequence) {
  // What was just published, wherever the cache has it.
  BlockTable table;
  table.AcquirePrefix(&pool_, sequence.prefix());
  CONCLAVE_CHECK(table.tokens() == sequence.known());
  const auto fresh =
      std::count_if(table.pages().begin(), table.pages().end(), [this](int32_t page) { return !pool_.pinned(page); });
  if (pool_.num_pinned() + fresh > options_.pinned_pages_max) {
    table.Release(&pool_);
    return ResourceExhausted("PREFIX_LIMIT: {} KV pages are pinned and this prompt would pin {} more, the limit is {}",
                             pool_.num_pinned(), fresh, options_.pinned_pages_max);
  }
  for (const int32_t page : table.pages()) pool_.Pin(page);
  Request* request = sequence.request;
  request->pin.id = request->id;
  request->pin.tokens = table.tokens();
  request->pin.pages = static_cast<int32_t>(table.pages().size());
  pins_.emplace(request->id, std::move(table));
  return absl::OkStatus();
}

void StepLoop::ReleasePin(BlockTable* table) {
  for (const int32_t page : table->pages()) pool_.Unpin(page);
  table->Release(&pool_);
}

void StepLoop::FinishSequence(Sequence* sequence) {
  if (sequence->done) return;
  sequence->done = true;
  ReleasePages(sequence);
  Request* request = sequence->request;
  if (request->kind == Request::Kind::kScore) {
    request->score.continuations[sequence->index] = std::move(sequence->score);
  }
  if (--request->open_sequences == 0) FinishRequest(request, request->failure);
}

void StepLoop::EndRequest(Request* request, FinishReason reason, const absl::Status& status) {
  if (request->finished) return;  // cancelled twice, or too late as well: it ends once, and is swept away afterwards
  const auto end = [&](Sequence* sequence) {
    if (sequence->request != request || sequence->done) return;
    sequence->done = true;
    // After a fault nobody knows what the pages hold.
    reason == FinishReason::kFailed ? sequence->table.Release(&pool_) : ReleasePages(sequence);
    if (request->sink == nullptr) return;
    SampleDelta delta;
    delta.sample = sequence->sample;
    delta.finished = reason;
    request->sink->OnDelta(std::move(delta));
  };
  for (auto* list : {&running_, &waiting_}) {
    for (const auto& sequence : *list) {
      end(sequence.get());
      for (const auto& follower : sequence->followers) end(follower.get());
    }
  }
  FinishRequest(request, status);
}

void StepLoop::FinishRequest(Request* request, const absl::Status& status) {
  const int64_t now_ns = clock_->NowNs();
  if (request->first_token_ns > 0) request->usage.decode_ns = now_ns - request->first_token_ns;
  request->finished = true;
  ++totals_.requests_done;
  if (!status.ok() && !absl::IsCancelled(status)) ++totals_.requests_failed;
  Report(request, status);
  MutexLock lock(&mutex_);
  --open_requests_;
  if (!request->started) {
    --waiting_requests_;
    waiting_tokens_ -= request->prompt_tokens;
  }
}

void StepLoop::Report(Request* request, const absl::Status& status) {
  switch (request->kind) {
    case Request::Kind::kGenerate:
      return request->sink->OnDone(status, request->usage);
    case Request::Kind::kScore:
      if (!status.ok()) return request->score_done(status);
      request->score.usage = request->usage;
      return request->score_done(std::move(request->score));
    case Request::Kind::kLogits:
      return request->logits_done(status);
    case Request::Kind::kPin:
      if (!status.ok()) return request->pin_done(status);
      request->pin.usage = request->usage;
      PublishLoad();  // whoever is told may look
      return request->pin_done(request->pin);
  }
}

void StepLoop::EndAll(const absl::Status& status) {
  for (const auto& [id, request] : requests_) EndRequest(request.get(), FinishReason::kFailed, status);
}

void StepLoop::Sweep() {
  for (auto* list : {&running_, &waiting_}) {
    std::erase_if(*list, [](const std::unique_ptr<Sequence>& sequence) { return sequence->done; });
  }
  std::erase_if(requests_, [](const auto& entry) { return entry.second->finished; });
}

}  // namespace conclave::engine
