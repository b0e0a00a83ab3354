// SPDX-License-Identifier: Apache-2.0
#include "worker/validate.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "protos/rpc_status.h"
#include "worker/limits.h"

namespace conclave::worker {
namespace {

// Collects violations; beyond kViolationsMax they are only counted.
class Violations {
 public:
  template <typename... Args>
  void Add(std::string field, fmt::format_string<Args...> format, Args&&... args) {
    if (static_cast<int32_t>(found_.size()) < kViolationsMax) {
      found_.push_back({std::move(field), fmt::format(format, std::forward<Args>(args)...)});
    } else {
      ++unlisted_;
    }
  }

  void CheckBytes(std::string field, std::string_view text, int64_t bytes_max) {
    if (static_cast<int64_t>(text.size()) > bytes_max)
      Add(std::move(field), "{} bytes, at most {}", text.size(), bytes_max);
  }
  // True when the list may be walked: an oversized one is a single violation, however long it is.
  bool CheckCount(std::string field, int64_t count, int64_t count_max) {
    if (count > count_max) Add(std::move(field), "{} entries, at most {}", count, count_max);
    return count <= count_max;
  }
  // Written so that a NaN is out of every range.
  template <typename T>
  void CheckRange(std::string field, T value, T low, T high) {
    if (!(value >= low && value <= high)) Add(std::move(field), "{} is outside [{}, {}]", value, low, high);
  }
  void CheckToken(std::string field, int32_t id, int32_t vocab) {
    if (id < 0 || id >= vocab) Add(std::move(field), "{} is no token id, the vocabulary has {}", id, vocab);
  }

  absl::Status Result(std::string_view message_name) {
    if (unlisted_ > 0) found_.push_back({"", fmt::format("and {} more violations, not listed", unlisted_)});
    return rpc::BadRequest(message_name, found_);
  }

 private:
  std::vector<rpc::FieldViolation> found_;
  int64_t unlisted_ = 0;
};

void CheckTokens(const std::string& field, const google::protobuf::RepeatedField<int32_t>& ids, int32_t vocab,
                 Violations* out) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab) out->CheckToken(fmt::format("{}[{}]", field, i), ids[i], vocab);
  }
}

void CheckChat(const pb::Chat& chat, const std::string& path, Violations* out) {
  if (chat.messages().empty()) out->Add(path + ".messages", "is empty, a chat needs a message");
  if (!out->CheckCount(path + ".messages", chat.messages_size(), kChatMessagesMax)) return;
  for (int i = 0; i < chat.messages_size(); ++i) {
    const std::string field = fmt::format("{}.messages[{}].role", path, i);
    if (chat.messages(i).role().empty()) out->Add(field, "is empty, e.g. \"user\"");
    out->CheckBytes(field, chat.messages(i).role(), kChatRoleBytesMax);
  }
}

void CheckPrefixId(const std::string& field, const std::string& id, Violations* out) {
  if (id.empty()) out->Add(field, "is empty, PinPrefix gives it");
  out->CheckBytes(field, id, kPrefixIdBytesMax);
}

void CheckPrefix(const pb::PrefixPrompt& prefix, const std::string& path, int32_t vocab, Violations* out) {
  CheckPrefixId(path + ".prefix_id", prefix.prefix_id(), out);
  CheckTokens(path + ".token_ids.ids", prefix.token_ids().ids(), vocab, out);
}

void CheckPrompt(const pb::Prompt& prompt, const std::string& path, int32_t vocab, Violations* out) {
  switch (prompt.prompt_case()) {
    case pb::Prompt::kText:
      return;
    case pb::Prompt::kTokenIds:
      if (prompt.token_ids().ids().empty()) out->Add(path + ".token_ids.ids", "is empty, give at least one id");
      return CheckTokens(path + ".token_ids.ids", prompt.token_ids().ids(), vocab, out);
    case pb::Prompt::kChat:
      return CheckChat(prompt.chat(), path + ".chat", out);
    case pb::Prompt::kPrefix:
      return CheckPrefix(prompt.prefix(), path + ".prefix", vocab, out);
    case pb::Prompt::PROMPT_NOT_SET:
      out->Add(path, "is missing, give one of text, token_ids, chat, prefix");
      return;
  }
}

void CheckSampling(const pb::Sampling& s, int32_t vocab, Violations* out) {
  if (s.has_temperature()) out->CheckRange("sampling.temperature", s.temperature(), 0.0f, kTemperatureMax);
  if (s.has_top_k()) out->CheckRange("sampling.top_k", s.top_k(), 0, vocab);
  if (s.has_top_p() && !(s.top_p() > 0.0f && s.top_p() <= 1.0f)) {
    out->Add("sampling.top_p", "{} is outside (0, 1]; 1 turns it off", s.top_p());
  }
  if (s.has_min_p() && !(s.min_p() >= 0.0f && s.min_p() < 1.0f)) {
    out->Add("sampling.min_p", "{} is outside [0, 1); 0 turns it off", s.min_p());
  }
  if (s.has_repetition_penalty() &&
      !(s.repetition_penalty() > 0.0f && s.repetition_penalty() <= kRepetitionPenaltyMax)) {
    out->Add("sampling.repetition_penalty", "{} is outside (0, {}]; 1 turns it off", s.repetition_penalty(),
             kRepetitionPenaltyMax);
  }
  if (s.has_frequency_penalty()) {
    out->CheckRange("sampling.frequency_penalty", s.frequency_penalty(), -kPenaltyMax, kPenaltyMax);
  }
  if (s.has_presence_penalty()) {
    out->CheckRange("sampling.presence_penalty", s.presence_penalty(), -kPenaltyMax, kPenaltyMax);
  }
  if (!out->CheckCount("sampling.logit_bias", s.logit_bias_size(), kLogitBiasMax)) return;
  for (int i = 0; i < s.logit_bias_size(); ++i) {
    const std::string field = fmt::format("sampling.logit_bias[{}]", i);
    out->CheckToken(field + ".token_id", s.logit_bias(i).token_id(), vocab);
    out->CheckRange(field + ".bias", s.logit_bias(i).bias(), -kLogitBiasMagnitudeMax, kLogitBiasMagnitudeMax);
  }
}

void CheckStopping(const pb::Stopping& s, int32_t vocab, Violations* out) {
  if (s.has_max_output_token_count() && s.max_output_token_count() < 1) {
    out->Add("stopping.max_output_token_count", "{} is below 1", s.max_output_token_count());
  }
  if (out->CheckCount("stopping.stop_texts", s.stop_texts_size(), kStopStringsMax)) {
    for (int i = 0; i < s.stop_texts_size(); ++i) {
      const std::string field = fmt::format("stopping.stop_texts[{}]", i);
      if (s.stop_texts(i).empty()) out->Add(field, "is empty, which would stop at once");
      out->CheckBytes(field, s.stop_texts(i), kStopStringBytesMax);
    }
  }
  if (out->CheckCount("stopping.stop_token_ids", s.stop_token_ids_size(), kStopTokensMax)) {
    CheckTokens("stopping.stop_token_ids", s.stop_token_ids(), vocab, out);
  }
}

void CheckLease(const google::protobuf::Duration& lease, Violations* out) {
  // Whole and broken seconds apart, so that no sum overflows.
  out->CheckRange<int64_t>("lease.seconds", lease.seconds(), 0, kPrefixLeaseSecondsMax);
  out->CheckRange("lease.nanos", lease.nanos(), 0, lease.seconds() == kPrefixLeaseSecondsMax ? 0 : 999'999'999);
  if (lease.seconds() == 0 && lease.nanos() == 0) out->Add("lease", "is 0, give a time above it");
}

void CheckPrefixIds(const google::protobuf::RepeatedPtrField<std::string>& ids, Violations* out) {
  if (ids.empty()) out->Add("prefix_ids", "is empty, give at least one");
  if (!out->CheckCount("prefix_ids", ids.size(), kPrefixIdsMax)) return;
  for (int i = 0; i < ids.size(); ++i) CheckPrefixId(fmt::format("prefix_ids[{}]", i), ids[i], out);
}

void CheckRouting(const pb::RoutingPolicy& routing, Violations* out) {
  if (routing.has_top_k() && routing.top_k() < 1) out->Add("routing.top_k", "{} is below 1", routing.top_k());
}

void CheckConstraint(const pb::Constraint& constraint, Violations* out) {
  constexpr auto kBytesMax = static_cast<int64_t>(kConstraintBytesMax);
  switch (constraint.constraint_case()) {
    case pb::Constraint::kJsonSchema:
      return out->CheckBytes("constraint.json_schema", constraint.json_schema(), kBytesMax);
    case pb::Constraint::kRegex:
      return out->CheckBytes("constraint.regex", constraint.regex(), kBytesMax);
    case pb::Constraint::kGrammar:
      return out->CheckBytes("constraint.grammar", constraint.grammar(), kBytesMax);
    case pb::Constraint::CONSTRAINT_NOT_SET:
      return out->Add("constraint", "is empty, give one of json_schema, regex, grammar");
  }
}

}  // namespace

absl::Status Validate(const pb::GenerateRequest& request, int32_t vocab) {
  Violations out;
  out.CheckBytes("request_id", request.request_id(), kRequestIdBytesMax);
  out.CheckBytes("cache_salt", request.cache_salt(), kCacheSaltBytesMax);
  CheckPrompt(request.prompt(), "prompt", vocab, &out);
  if (request.has_sample_count()) out.CheckRange("sample_count", request.sample_count(), 1, kSamplesMax);
  if (request.has_priority()) out.CheckRange("priority", request.priority(), -kPriorityMax, kPriorityMax);
  CheckSampling(request.sampling(), vocab, &out);
  CheckStopping(request.stopping(), vocab, &out);
  CheckRouting(request.routing(), &out);
  if (request.has_constraint()) CheckConstraint(request.constraint(), &out);
  if (request.output().has_top_logprob_count()) {
    out.CheckRange("output.top_logprob_count", request.output().top_logprob_count(), 0, kTopLogprobsMax);
  } else if (request.output().token_bytes()) {
    out.Add("output.token_bytes", "are told with log-probabilities; set top_logprob_count, too");
  }
  if (request.has_continuation()) {
    CheckTokens("continuation.generated_token_ids", request.continuation().generated_token_ids(), vocab, &out);
    out.CheckRange("continuation.sample_index", request.continuation().sample_index(), 0, kSampleIndexMax);
    if (request.has_sample_count() && request.sample_count() != 1) {
      out.Add("sample_count", "{} with a continuation, which continues one sample", request.sample_count());
    }
  }
  return out.Result("GenerateRequest");
}

absl::Status Validate(const pb::ScoreRequest& request, int32_t vocab) {
  Violations out;
  out.CheckBytes("cache_salt", request.cache_salt(), kCacheSaltBytesMax);
  CheckPrompt(request.prompt(), "prompt", vocab, &out);
  CheckRouting(request.routing(), &out);
  if (request.continuations().empty()) out.Add("continuations", "is empty, give at least one");
  if (out.CheckCount("continuations", request.continuations_size(), kSamplesMax)) {
    for (int i = 0; i < request.continuations_size(); ++i) {
      const pb::Prompt& continuation = request.continuations(i);
      const std::string field = fmt::format("continuations[{}]", i);
      if (continuation.has_chat()) {
        out.Add(field + ".chat", "is not allowed here, a continuation is text or token_ids");
      } else if (continuation.has_prefix()) {
        out.Add(field + ".prefix", "is not allowed here, a continuation is text or token_ids");
      } else {
        CheckPrompt(continuation, field, vocab, &out);
      }
      if (continuation.has_text() && continuation.text().empty()) out.Add(field + ".text", "is empty");
    }
  }
  return out.Result("ScoreRequest");
}

absl::Status Validate(const pb::TokenizeRequest& request, int32_t vocab) {
  Violations out;
  if (request.prompt().has_token_ids()) {
    out.Add("prompt.token_ids", "are tokens already, give text or chat");
  } else if (request.prompt().has_prefix()) {
    out.Add("prompt.prefix", "is tokens already, give text or chat");
  } else {
    CheckPrompt(request.prompt(), "prompt", vocab, &out);
  }
  return out.Result("TokenizeRequest");
}

absl::Status Validate(const pb::DetokenizeRequest& request, int32_t vocab) {
  Violations out;
  CheckTokens("ids", request.ids(), vocab, &out);
  return out.Result("DetokenizeRequest");
}

absl::Status Validate(const pb::CancelRequestsRequest& request) {
  Violations out;
  if (request.all() && !request.request_ids().empty()) out.Add("all", "is set beside request_ids, give one of them");
  if (!request.all() && request.request_ids().empty()) out.Add("request_ids", "is empty and all is not set");
  if (out.CheckCount("request_ids", request.request_ids_size(), kCancelIdsMax)) {
    for (int i = 0; i < request.request_ids_size(); ++i) {
      const std::string field = fmt::format("request_ids[{}]", i);
      if (request.request_ids(i).empty()) out.Add(field, "is empty");
      out.CheckBytes(field, request.request_ids(i), kRequestIdBytesMax);
    }
  }
  return out.Result("CancelRequestsRequest");
}

absl::Status Validate(const pb::DrainRequest& request) {
  Violations out;
  if (request.has_grace()) {
    out.CheckRange<int64_t>("grace.seconds", request.grace().seconds(), 0, kDrainGraceSecondsMax);
    out.CheckRange("grace.nanos", request.grace().nanos(), 0, 999'999'999);
  }
  return out.Result("DrainRequest");
}

absl::Status Validate(const pb::PinPrefixRequest& request, int32_t vocab) {
  Violations out;
  CheckPrompt(request.prompt(), "prompt", vocab, &out);
  if (request.has_lease()) CheckLease(request.lease(), &out);
  CheckRouting(request.routing(), &out);
  out.CheckBytes("cache_salt", request.cache_salt(), kCacheSaltBytesMax);
  return out.Result("PinPrefixRequest");
}

absl::Status Validate(const pb::RenewPrefixesRequest& request) {
  Violations out;
  CheckPrefixIds(request.prefix_ids(), &out);
  if (request.has_lease()) CheckLease(request.lease(), &out);
  return out.Result("RenewPrefixesRequest");
}

absl::Status Validate(const pb::ReleasePrefixesRequest& request) {
  Violations out;
  CheckPrefixIds(request.prefix_ids(), &out);
  return out.Result("ReleasePrefixesRequest");
}

}  // namespace conclave::worker
