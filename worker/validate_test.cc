// SPDX-License-Identifier: Apache-2.0
// Every limit at the limit and one past it; all violations of a message at once.
#include "worker/validate.h"

#include <cmath>
#include <functional>
#include <limits>

#include "common/status.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"
#include "worker/limits.h"

namespace conclave::worker {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kVocab = 100;

pb::GenerateRequest Valid() {
  pb::GenerateRequest request;
  request.mutable_prompt()->set_text("x");
  return request;
}

// The fields that a change to a valid GenerateRequest violates.
std::vector<std::string> Fields(const std::function<void(pb::GenerateRequest*)>& change) {
  pb::GenerateRequest request = Valid();
  change(&request);
  std::vector<std::string> fields;
  for (const auto& violation : rpc::Violations(Validate(request, kVocab))) fields.push_back(violation.field);
  return fields;
}

struct Limit {
  const char* field;
  std::function<void(pb::GenerateRequest*)> good, bad;
};

pb::Sampling* S(pb::GenerateRequest* r) { return r->mutable_sampling(); }

// LONG FUNCTION: a table, one row per limit.
const std::vector<Limit>& Limits() {
  const auto repeat = [](int n, const std::function<void(pb::GenerateRequest*)>& add) {
    return [n, add](pb::GenerateRequest* r) {
      for (int i = 0; i < n; ++i) add(r);
    };
  };
  const auto stop_text = [](pb::GenerateRequest* r) { r->mutable_stopping()->add_stop_texts("s"); };
  const auto stop_token = [](pb::GenerateRequest* r) { r->mutable_stopping()->add_stop_token_ids(1); };
  const auto bias = [](pb::GenerateRequest* r) { S(r)->add_logit_bias()->set_token_id(1); };
  const auto message = [](pb::GenerateRequest* r) {
    r->mutable_prompt()->mutable_chat()->add_messages()->set_role("user");
  };
  static const std::vector<Limit> limits = {
      {"request_id", [](auto* r) { r->set_request_id(std::string(kRequestIdBytesMax, 'a')); },
       [](auto* r) { r->set_request_id(std::string(kRequestIdBytesMax + 1, 'a')); }},
      {"cache_salt", [](auto* r) { r->set_cache_salt(std::string(kCacheSaltBytesMax, 'a')); },
       [](auto* r) { r->set_cache_salt(std::string(kCacheSaltBytesMax + 1, 'a')); }},
      {"sample_count", [](auto* r) { r->set_sample_count(kSamplesMax); },
       [](auto* r) { r->set_sample_count(kSamplesMax + 1); }},
      {"sample_count", [](auto* r) { r->set_sample_count(1); }, [](auto* r) { r->set_sample_count(0); }},
      {"priority", [](auto* r) { r->set_priority(kPriorityMax); }, [](auto* r) { r->set_priority(kPriorityMax + 1); }},
      {"priority", [](auto* r) { r->set_priority(-kPriorityMax); },
       [](auto* r) { r->set_priority(-kPriorityMax - 1); }},
      {"sampling.temperature", [](auto* r) { S(r)->set_temperature(0); },
       [](auto* r) { S(r)->set_temperature(-0.01f); }},
      {"sampling.temperature", [](auto* r) { S(r)->set_temperature(kTemperatureMax); },
       [](auto* r) { S(r)->set_temperature(std::nextafter(kTemperatureMax, 200.0f)); }},
      {"sampling.temperature", [](auto* r) { S(r)->set_temperature(1); }, [](auto* r) { S(r)->set_temperature(NAN); }},
      {"sampling.top_k", [](auto* r) { S(r)->set_top_k(0); }, [](auto* r) { S(r)->set_top_k(-1); }},
      {"sampling.top_k", [](auto* r) { S(r)->set_top_k(kVocab); }, [](auto* r) { S(r)->set_top_k(kVocab + 1); }},
      {"sampling.top_p", [](auto* r) { S(r)->set_top_p(1); },
       [](auto* r) { S(r)->set_top_p(std::nextafter(1.0f, 2.0f)); }},
      {"sampling.top_p", [](auto* r) { S(r)->set_top_p(1e-9f); }, [](auto* r) { S(r)->set_top_p(0); }},
      {"sampling.top_p", [](auto* r) { S(r)->set_top_p(0.5f); }, [](auto* r) { S(r)->set_top_p(NAN); }},
      {"sampling.min_p", [](auto* r) { S(r)->set_min_p(0); }, [](auto* r) { S(r)->set_min_p(-0.1f); }},
      {"sampling.min_p", [](auto* r) { S(r)->set_min_p(std::nextafter(1.0f, 0.0f)); },
       [](auto* r) { S(r)->set_min_p(1); }},
      {"sampling.repetition_penalty", [](auto* r) { S(r)->set_repetition_penalty(0.1f); },
       [](auto* r) { S(r)->set_repetition_penalty(0); }},
      {"sampling.repetition_penalty", [](auto* r) { S(r)->set_repetition_penalty(kRepetitionPenaltyMax); },
       [](auto* r) { S(r)->set_repetition_penalty(std::nextafter(kRepetitionPenaltyMax, 20.0f)); }},
      {"sampling.frequency_penalty", [](auto* r) { S(r)->set_frequency_penalty(-2); },
       [](auto* r) { S(r)->set_frequency_penalty(-2.1f); }},
      {"sampling.presence_penalty", [](auto* r) { S(r)->set_presence_penalty(2); },
       [](auto* r) { S(r)->set_presence_penalty(INFINITY); }},
      {"sampling.logit_bias", repeat(kLogitBiasMax, bias), repeat(kLogitBiasMax + 1, bias)},
      {"sampling.logit_bias[0].token_id", [](auto* r) { S(r)->add_logit_bias()->set_token_id(kVocab - 1); },
       [](auto* r) { S(r)->add_logit_bias()->set_token_id(kVocab); }},
      {"sampling.logit_bias[0].bias", [](auto* r) { S(r)->add_logit_bias()->set_bias(-1000); },
       [](auto* r) { S(r)->add_logit_bias()->set_bias(NAN); }},
      {"stopping.max_output_token_count", [](auto* r) { r->mutable_stopping()->set_max_output_token_count(1); },
       [](auto* r) { r->mutable_stopping()->set_max_output_token_count(0); }},
      {"stopping.stop_texts", repeat(kStopStringsMax, stop_text), repeat(kStopStringsMax + 1, stop_text)},
      {"stopping.stop_texts[0]",
       [](auto* r) { r->mutable_stopping()->add_stop_texts(std::string(kStopStringBytesMax, 's')); },
       [](auto* r) { r->mutable_stopping()->add_stop_texts(std::string(kStopStringBytesMax + 1, 's')); }},
      {"stopping.stop_texts[0]", stop_text, [](auto* r) { r->mutable_stopping()->add_stop_texts(""); }},
      {"stopping.stop_token_ids", repeat(kStopTokensMax, stop_token), repeat(kStopTokensMax + 1, stop_token)},
      {"stopping.stop_token_ids[0]", [](auto* r) { r->mutable_stopping()->add_stop_token_ids(0); },
       [](auto* r) { r->mutable_stopping()->add_stop_token_ids(-1); }},
      {"routing.top_k", [](auto* r) { r->mutable_routing()->set_top_k(1); },
       [](auto* r) { r->mutable_routing()->set_top_k(0); }},
      {"output.top_logprob_count", [](auto* r) { r->mutable_output()->set_top_logprob_count(kTopLogprobsMax); },
       [](auto* r) { r->mutable_output()->set_top_logprob_count(kTopLogprobsMax + 1); }},
      {"output.top_logprob_count", [](auto* r) { r->mutable_output()->set_top_logprob_count(0); },
       [](auto* r) { r->mutable_output()->set_top_logprob_count(-1); }},
      {"output.token_bytes",
       [](auto* r) {
         r->mutable_output()->set_top_logprob_count(0);
         r->mutable_output()->set_token_bytes(true);
       },
       [](auto* r) {
         r->mutable_output()->clear_top_logprob_count();
         r->mutable_output()->set_token_bytes(true);
       }},
      {"prompt", [](auto*) {}, [](auto* r) { r->clear_prompt(); }},
      {"prompt.token_ids.ids", [](auto* r) { r->mutable_prompt()->mutable_token_ids()->add_ids(0); },
       [](auto* r) { r->mutable_prompt()->mutable_token_ids(); }},
      {"prompt.token_ids.ids[0]", [](auto* r) { r->mutable_prompt()->mutable_token_ids()->add_ids(kVocab - 1); },
       [](auto* r) { r->mutable_prompt()->mutable_token_ids()->add_ids(kVocab); }},
      {"prompt.chat.messages", repeat(kChatMessagesMax, message), repeat(kChatMessagesMax + 1, message)},
      {"prompt.chat.messages", message, [](auto* r) { r->mutable_prompt()->mutable_chat(); }},
      {"prompt.chat.messages[0].role", message,
       [](auto* r) { r->mutable_prompt()->mutable_chat()->add_messages()->set_content("no role"); }},
      {"continuation.sample_index", [](auto* r) { r->mutable_continuation()->set_sample_index(kSampleIndexMax); },
       [](auto* r) { r->mutable_continuation()->set_sample_index(kSampleIndexMax + 1); }},
      {"continuation.generated_token_ids[0]",
       [](auto* r) { r->mutable_continuation()->add_generated_token_ids(kVocab - 1); },
       [](auto* r) { r->mutable_continuation()->add_generated_token_ids(kVocab); }},
      {"constraint", [](auto* r) { r->mutable_constraint()->set_regex(""); }, [](auto* r) { r->mutable_constraint(); }},
      {"constraint.regex", [](auto* r) { r->mutable_constraint()->set_regex(std::string(kConstraintBytesMax, 'a')); },
       [](auto* r) { r->mutable_constraint()->set_regex(std::string(kConstraintBytesMax + 1, 'a')); }},
      {"constraint.json_schema", [](auto* r) { r->mutable_constraint()->set_json_schema("{}"); },
       [](auto* r) { r->mutable_constraint()->set_json_schema(std::string(kConstraintBytesMax + 1, ' ')); }},
      {"constraint.grammar",
       [](auto* r) { r->mutable_constraint()->set_grammar(std::string(kConstraintBytesMax, '#')); },
       [](auto* r) { r->mutable_constraint()->set_grammar(std::string(kConstraintBytesMax + 1, '#')); }},
      {"sample_count", [](auto* r) { r->mutable_continuation(), r->set_sample_count(1); },
       [](auto* r) { r->mutable_continuation(), r->set_sample_count(2); }},
  };
  return limits;
}

TEST(Validate, EveryLimitHoldsAtTheLimitAndOnePastIt) {
  for (const Limit& limit : Limits()) {
    EXPECT_TRUE(Fields(limit.good).empty()) << limit.field;
    EXPECT_THAT(Fields(limit.bad), ElementsAre(limit.field));
  }
}

TEST(Validate, AllViolationsComeAtOnce) {
  const std::vector<std::string> fields = Fields([](pb::GenerateRequest* r) {
    r->clear_prompt();
    r->set_sample_count(0);
    S(r)->set_top_p(2);
    r->mutable_stopping()->add_stop_texts("");
  });
  EXPECT_THAT(fields, ElementsAre("prompt", "sample_count", "sampling.top_p", "stopping.stop_texts[0]"));
}

TEST(Validate, AHugeListOfViolationsIsCountedNotListed) {
  pb::GenerateRequest request;
  for (int i = 0; i < 100'000; ++i) request.mutable_prompt()->mutable_token_ids()->add_ids(-1);
  const auto violations = rpc::Violations(Validate(request, kVocab));
  ASSERT_EQ(static_cast<int32_t>(violations.size()), kViolationsMax + 1);
  EXPECT_THAT(violations.back().description, HasSubstr(fmt::format("{} more", 100'000 - kViolationsMax)));
}

TEST(Validate, ScoreRequests) {
  pb::ScoreRequest request;
  request.mutable_prompt()->set_text("x");
  EXPECT_THAT(Validate(request, kVocab), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("continuations")));
  for (int i = 0; i < kSamplesMax; ++i) request.add_continuations()->set_text("y");
  EXPECT_OK(Validate(request, kVocab));
  request.add_continuations()->set_text("y");
  EXPECT_THAT(Validate(request, kVocab),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65 entries, at most 64")));
  request.clear_continuations();
  request.add_continuations()->mutable_chat()->add_messages()->set_role("user");
  request.add_continuations()->set_text("");
  request.add_continuations();
  std::vector<std::string> fields;
  for (const auto& violation : rpc::Violations(Validate(request, kVocab))) fields.push_back(violation.field);
  EXPECT_THAT(fields, ElementsAre("continuations[0].chat", "continuations[1].text", "continuations[2]"));
}

TEST(Validate, TextRequests) {
  pb::TokenizeRequest tokenize;
  EXPECT_THAT(Validate(tokenize, kVocab), StatusIs(absl::StatusCode::kInvalidArgument));
  tokenize.mutable_prompt()->mutable_token_ids()->add_ids(1);
  EXPECT_THAT(Validate(tokenize, kVocab), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokens already")));
  tokenize.mutable_prompt()->set_text("");
  EXPECT_OK(Validate(tokenize, kVocab));
  pb::DetokenizeRequest detokenize;
  EXPECT_OK(Validate(detokenize, kVocab));
  detokenize.add_ids(kVocab - 1);
  EXPECT_OK(Validate(detokenize, kVocab));
  detokenize.add_ids(kVocab);
  EXPECT_THAT(Validate(detokenize, kVocab), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ids[1]")));
}

TEST(Validate, ControlRequests) {
  pb::CancelRequestsRequest cancel;
  EXPECT_THAT(Validate(cancel), StatusIs(absl::StatusCode::kInvalidArgument));
  for (int i = 0; i < kCancelIdsMax; ++i) cancel.add_request_ids("r");
  EXPECT_OK(Validate(cancel));
  cancel.add_request_ids("r");
  EXPECT_THAT(Validate(cancel), StatusIs(absl::StatusCode::kInvalidArgument));
  cancel.clear_request_ids();
  cancel.add_request_ids(std::string(kRequestIdBytesMax + 1, 'r'));
  EXPECT_THAT(Validate(cancel), StatusIs(absl::StatusCode::kInvalidArgument));
  cancel.set_all(true);
  EXPECT_THAT(Validate(cancel), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("beside")));

  pb::DrainRequest drain;
  EXPECT_OK(Validate(drain));
  drain.mutable_grace()->set_seconds(kDrainGraceSecondsMax);
  EXPECT_OK(Validate(drain));
  drain.mutable_grace()->set_seconds(kDrainGraceSecondsMax + 1);
  EXPECT_THAT(Validate(drain), StatusIs(absl::StatusCode::kInvalidArgument));
  drain.mutable_grace()->set_seconds(-1);
  EXPECT_THAT(Validate(drain), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace conclave::worker
