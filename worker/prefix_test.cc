// SPDX-License-Identifier: Apache-2.0
// Pinned prefixes: gone on from, renewed, released, let go when their time is over or the worker drains.
#include <thread>

#include "common/status.h"
#include "protos/rpc_calls.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"
#include "worker/limits.h"
#include "worker/prefix_table.h"
#include "worker/validate.h"
#include "worker/worker_testing.h"

namespace conclave::worker {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kSecond = 1'000'000'000;
constexpr auto kRenewed = pb::RenewPrefixesResponse::OUTCOME_RENEWED;
constexpr auto kNotRenewed = pb::RenewPrefixesResponse::OUTCOME_NOT_PINNED;
constexpr auto kReleased = pb::ReleasePrefixesResponse::OUTCOME_RELEASED;
constexpr auto kNotReleased = pb::ReleasePrefixesResponse::OUTCOME_NOT_PINNED;

pb::PinPrefixRequest PinRequest(std::string_view text, std::string_view salt = "") {
  pb::PinPrefixRequest request;
  request.mutable_prompt()->set_text(std::string(text));
  request.set_cache_salt(std::string(salt));
  return request;
}

absl::StatusOr<pb::PinPrefixResponse> Pin(ServedWorker* worker, const pb::PinPrefixRequest& request) {
  return Call<pb::PinPrefixRequest, pb::PinPrefixResponse>(worker, &Stub::PinPrefix, request);
}

std::vector<int> Renew(ServedWorker* worker, const std::vector<std::string>& ids, int64_t seconds = 0) {
  pb::RenewPrefixesRequest request;
  for (const std::string& id : ids) request.add_prefix_ids(id);
  if (seconds > 0) request.mutable_lease()->set_seconds(seconds);
  const auto response =
      Call<pb::RenewPrefixesRequest, pb::RenewPrefixesResponse>(worker, &Stub::RenewPrefixes, request);
  EXPECT_OK(response);
  return {response->outcomes().begin(), response->outcomes().end()};
}

std::vector<int> Release(ServedWorker* worker, const std::vector<std::string>& ids) {
  pb::ReleasePrefixesRequest request;
  for (const std::string& id : ids) request.add_prefix_ids(id);
  const auto response =
      Call<pb::ReleasePrefixesRequest, pb::ReleasePrefixesResponse>(worker, &Stub::ReleasePrefixes, request);
  EXPECT_OK(response);
  return {response->outcomes().begin(), response->outcomes().end()};
}

pb::GetLoadResponse Load(ServedWorker* worker) {
  return *Call<pb::GetLoadRequest, pb::GetLoadResponse>(worker, &Stub::GetLoad, {});
}

absl::Status Generate(ServedWorker* worker, const std::string& id, std::string_view salt = "") {
  pb::GenerateRequest request;
  request.mutable_prompt()->mutable_prefix()->set_prefix_id(id);
  request.set_cache_salt(std::string(salt));
  return GenerateCall(worker->stub.get(), request).Finish();
}

TEST(Prefix, IsGoneOnFrom) {
  ServedWorker worker;
  const auto pinned = Pin(&worker, PinRequest("abc", "s"));
  ASSERT_OK(pinned);
  EXPECT_EQ(pinned->token_count(), 4);
  EXPECT_EQ(pinned->kv_block_count(), 1);
  EXPECT_EQ(pinned->usage().prompt_token_count(), 4);
  ASSERT_EQ(worker.host.pin_requests().size(), 1u);
  EXPECT_THAT(worker.host.pin_requests()[0].prompt, ElementsAre(FakeHost::kBegin, 'a', 'b', 'c'));
  EXPECT_EQ(worker.host.pin_requests()[0].cache_salt, "s");

  pb::GenerateRequest request;
  request.set_cache_salt("s");
  request.set_sample_count(8);
  request.mutable_prompt()->mutable_prefix()->set_prefix_id(pinned->prefix_id());
  const GenerateCall none(worker.stub.get(), request);
  EXPECT_THAT(worker.host.AwaitSubmitted(0).request.prompt, ElementsAre(FakeHost::kBegin, 'a', 'b', 'c'));
  EXPECT_EQ(worker.host.AwaitSubmitted(0).request.samples, 8);
  request.mutable_prompt()->mutable_prefix()->set_text("de");
  const GenerateCall text(worker.stub.get(), request);
  EXPECT_THAT(worker.host.AwaitSubmitted(1).request.prompt, ElementsAre(FakeHost::kBegin, 'a', 'b', 'c', 'd', 'e'));
  request.mutable_prompt()->mutable_prefix()->mutable_token_ids()->add_ids(7);
  const GenerateCall ids(worker.stub.get(), request);
  EXPECT_THAT(worker.host.AwaitSubmitted(2).request.prompt, ElementsAre(FakeHost::kBegin, 'a', 'b', 'c', 7));

  pb::PinPrefixRequest further = PinRequest("", "s");
  further.mutable_prompt()->mutable_prefix()->set_prefix_id(pinned->prefix_id());
  further.mutable_prompt()->mutable_prefix()->set_text("f");
  const auto longer = Pin(&worker, further);
  ASSERT_OK(longer);
  EXPECT_NE(longer->prefix_id(), pinned->prefix_id());
  EXPECT_THAT(worker.host.pin_requests()[1].prompt, ElementsAre(FakeHost::kBegin, 'a', 'b', 'c', 'f'));
  EXPECT_EQ(Load(&worker).pinned_prefix_count(), 2);
  EXPECT_EQ(Load(&worker).pinned_token_count(), 4 + 5);
  EXPECT_EQ(Load(&worker).pinned_kv_block_count(), 4) << "as the engine says";

  pb::ScoreRequest score;
  score.set_cache_salt("s");
  *score.mutable_prompt() = request.prompt();
  score.add_continuations()->set_text("x");
  const auto scored = Call<pb::ScoreRequest, pb::ScoreResponse>(&worker, &Stub::Score, score);
  ASSERT_OK(scored);
  EXPECT_EQ(scored->usage().prompt_token_count(), 5);
}

TEST(Prefix, OfAChatIsItsMessages) {
  ServedWorker worker;
  pb::PinPrefixRequest request;
  pb::Chat* const chat = request.mutable_prompt()->mutable_chat();
  chat->set_now_unix_seconds(7);
  chat->set_generation_prompt(false);
  chat->add_messages()->set_role("user");
  chat->mutable_messages(0)->set_content("hi");
  ASSERT_OK(Pin(&worker, request));
  EXPECT_EQ(worker.host.Detokenize(worker.host.pin_requests()[0].prompt), "<user>hi");
}

TEST(Prefix, IsFoundByItsNameWithItsSaltOnly) {
  ServedWorker worker;
  const auto pinned = Pin(&worker, PinRequest("abc", "mine"));
  ASSERT_OK(pinned);
  for (const auto& [id, salt] : {std::pair<std::string, std::string>{pinned->prefix_id(), "theirs"},
                                 {pinned->prefix_id(), ""},
                                 {pinned->prefix_id() + "1", "mine"}}) {
    const absl::Status status = Generate(&worker, id, salt);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound)) << id << " " << salt;
    EXPECT_EQ(rpc::Reason(status), "PREFIX_NOT_FOUND");
  }
}

TEST(Prefix, LivesAsLongAsItsLease) {
  ServedWorker worker;
  pb::PinPrefixRequest request = PinRequest("abc");
  const auto usual = Pin(&worker, request);
  request.mutable_lease()->set_seconds(20);
  request.mutable_lease()->set_nanos(1);
  const auto longer = Pin(&worker, request);
  ASSERT_OK(usual);
  ASSERT_OK(longer);
  worker.clock.AdvanceNs(kPrefixLeaseSecondsDefault * kSecond - 1);
  worker.server->Tick();
  EXPECT_THAT(worker.host.unpinned(), IsEmpty());
  EXPECT_THAT(Renew(&worker, {usual->prefix_id()}), ElementsAre(kRenewed));
  worker.clock.AdvanceNs(1);
  EXPECT_EQ(Load(&worker).pinned_prefix_count(), 2);
  worker.clock.AdvanceNs(kPrefixLeaseSecondsDefault * kSecond - 2);  // the longer one's time is over, too late to renew
  EXPECT_THAT(Renew(&worker, {longer->prefix_id(), usual->prefix_id(), "nobody's"}, 100),
              ElementsAre(kNotRenewed, kRenewed, kNotRenewed));
  EXPECT_EQ(rpc::Reason(Generate(&worker, longer->prefix_id())), "PREFIX_NOT_FOUND");
  worker.server->Tick();
  EXPECT_THAT(worker.host.unpinned(), ElementsAre(2));
  EXPECT_EQ(Load(&worker).pinned_prefix_count(), 1);
  worker.clock.AdvanceNs(100 * kSecond);
  worker.server->Tick();
  EXPECT_THAT(worker.host.unpinned(), ElementsAre(2, 1));
  EXPECT_EQ(Load(&worker).pinned_token_count(), 0);
}

TEST(Prefix, IsReleasedOnce) {
  ServedWorker worker;
  const auto pinned = Pin(&worker, PinRequest("abc"));
  ASSERT_OK(pinned);
  EXPECT_THAT(Release(&worker, {pinned->prefix_id(), "x", pinned->prefix_id()}),
              ElementsAre(kReleased, kNotReleased, kNotReleased));
  EXPECT_THAT(worker.host.unpinned(), ElementsAre(1));
  EXPECT_EQ(rpc::Reason(Generate(&worker, pinned->prefix_id())), "PREFIX_NOT_FOUND");
}

TEST(Prefix, OfALostClientIsLetGo) {
  ServedWorker worker;
  const auto tell = worker.host.HoldBackPins();
  grpc::ClientContext context;
  pb::PinPrefixResponse response;
  std::thread client(
      [&] { EXPECT_EQ(worker.stub->PinPrefix(&context, PinRequest("abc"), &response).error_code(), grpc::CANCELLED); });
  while (worker.host.pin_requests().empty()) std::this_thread::yield();
  context.TryCancel();
  client.join();
  tell();
  EXPECT_EQ(Load(&worker).pinned_prefix_count(), 1) << "nobody knows yet that its client is gone";
  worker.clock.AdvanceNs(kPrefixLeaseSecondsDefault * kSecond);
  worker.server->Tick();
  EXPECT_THAT(worker.host.unpinned(), ElementsAre(1));
}

TEST(Prefix, DrainingLetsAllGo) {
  ServedWorker worker;
  ASSERT_OK(Pin(&worker, PinRequest("abc")));
  const auto tell = worker.host.HoldBackPins();
  absl::Status late;
  std::thread client([&] { late = Pin(&worker, PinRequest("late")).status(); });
  while (worker.host.pin_requests().size() < 2) std::this_thread::yield();
  ASSERT_OK((Call<pb::DrainRequest, pb::DrainResponse>(&worker, &Stub::Drain, {})));
  EXPECT_THAT(worker.host.unpinned(), ElementsAre(1));
  tell();
  client.join();
  EXPECT_THAT(late, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(rpc::Reason(late), "DRAINING");
  EXPECT_THAT(worker.host.unpinned(), ElementsAre(1, 2));
  EXPECT_EQ(rpc::Reason(Pin(&worker, PinRequest("later")).status()), "DRAINING");
  EXPECT_EQ(Load(&worker).pinned_prefix_count(), 0);
}

TEST(Prefix, WhatTheEngineRefuses) {
  ServedWorker worker;
  worker.host.set_pin_error(ResourceExhausted("PREFIX_LIMIT: too many pages"));
  absl::Status status = Pin(&worker, PinRequest("abc")).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(rpc::Reason(status), "PREFIX_LIMIT");
  EXPECT_FALSE(rpc::RetryDelayNs(status).has_value()) << "waiting does not help";
  worker.host.set_pin_error(ResourceExhausted("OVERLOADED: the queue is full"));
  status = Pin(&worker, PinRequest("abc")).status();
  EXPECT_EQ(rpc::Reason(status), "OVERLOADED");
  EXPECT_EQ(rpc::RetryDelayNs(status), rpc::kOverloadRetryNs);
  worker.host.set_pin_error(absl::OkStatus());
  EXPECT_EQ(rpc::Reason(Pin(&worker, PinRequest(std::string(FakeHost::kContext, 'x'))).status()), "PROMPT_TOO_LONG");
  EXPECT_OK(Pin(&worker, PinRequest(std::string(FakeHost::kContext - 1, 'x'))).status());
}

TEST(PrefixTable, LimitCountsWhatIsBeingComputed) {
  PrefixTable table("me");
  std::vector<std::string> ids;
  const auto pinned = [](engine::PinId pin) {
    return PinnedPrefix{pin, std::make_shared<const std::vector<engine::TokenId>>(2, 5), ""};
  };
  for (int32_t i = 0; i < kPinnedPrefixesMax; ++i) {
    ASSERT_OK(table.Reserve());
    if (i > 0) ids.push_back(table.Add(pinned(static_cast<engine::PinId>(i)), 100).value());
  }
  EXPECT_EQ(rpc::Reason(table.Reserve()), "PREFIX_LIMIT");
  table.Forgo();
  EXPECT_OK(table.Reserve());
  EXPECT_EQ(rpc::Reason(table.Reserve()), "PREFIX_LIMIT");
  EXPECT_EQ(table.Remove(ids[0]), 1u);
  EXPECT_OK(table.Reserve());
  EXPECT_EQ(table.size(), kPinnedPrefixesMax - 2);
  EXPECT_EQ(table.tokens(), 2 * (kPinnedPrefixesMax - 2));
}

TEST(PrefixTable, ARestartedProcessKnowsNothingOfTheOldOnes) {
  PrefixTable before("one"), after("two");
  for (PrefixTable* table : {&before, &after}) ASSERT_OK(table->Reserve());
  const auto tokens = std::make_shared<const std::vector<engine::TokenId>>(2, 5);
  const std::string id = before.Add({1, tokens, ""}, 100).value();
  EXPECT_NE(after.Add({1, tokens, ""}, 100).value(), id);
  EXPECT_OK(before.Find(id, "", 99));
  EXPECT_THAT(after.Find(id, "", 99).status(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_FALSE(after.Renew(id, 99, 200));
  EXPECT_FALSE(after.Remove(id).has_value());
  EXPECT_THAT(before.Close(), ElementsAre(1));
  EXPECT_EQ(rpc::Reason(before.Reserve()), "DRAINING");
}

TEST(Prefix, LimitsOfRequests) {
  constexpr int32_t kVocab = 100;
  pb::PinPrefixRequest pin;
  EXPECT_THAT(Validate(pin, kVocab), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prompt")));
  pin.mutable_prompt()->mutable_prefix()->set_prefix_id(std::string(kPrefixIdBytesMax, 'x'));
  pin.mutable_lease()->set_seconds(kPrefixLeaseSecondsMax);
  pin.set_cache_salt(std::string(kCacheSaltBytesMax, 'x'));
  EXPECT_OK(Validate(pin, kVocab));
  pin.mutable_lease()->set_nanos(1);
  EXPECT_THAT(Validate(pin, kVocab), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("lease.nanos")));
  pin.mutable_lease()->set_seconds(0);
  EXPECT_OK(Validate(pin, kVocab));
  pin.mutable_lease()->set_nanos(0);
  EXPECT_THAT(Validate(pin, kVocab), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("lease")));
  pin.mutable_lease()->set_seconds(-1);
  EXPECT_THAT(Validate(pin, kVocab), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("lease.seconds")));
  pin.clear_lease();
  EXPECT_OK(Validate(pin, kVocab));
  pin.set_cache_salt(std::string(kCacheSaltBytesMax + 1, 'x'));
  pin.mutable_prompt()->mutable_prefix()->set_prefix_id(std::string(kPrefixIdBytesMax + 1, 'x'));
  pin.mutable_prompt()->mutable_prefix()->mutable_token_ids()->add_ids(kVocab);
  pin.mutable_routing()->set_top_k(0);
  std::vector<std::string> fields;
  for (const auto& violation : rpc::Violations(Validate(pin, kVocab))) fields.push_back(violation.field);
  EXPECT_THAT(fields,
              ElementsAre("prompt.prefix.prefix_id", "prompt.prefix.token_ids.ids[0]", "routing.top_k", "cache_salt"));

  pb::RenewPrefixesRequest renew;
  pb::ReleasePrefixesRequest release;
  const auto none = StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prefix_ids"));
  EXPECT_THAT(Validate(renew), none);
  EXPECT_THAT(Validate(release), none);
  for (int32_t i = 0; i < kPrefixIdsMax; ++i) {
    renew.add_prefix_ids("x");
    release.add_prefix_ids("x");
  }
  EXPECT_OK(Validate(renew));
  EXPECT_OK(Validate(release));
  renew.add_prefix_ids("x");
  release.add_prefix_ids("x");
  EXPECT_THAT(Validate(renew), none);
  EXPECT_THAT(Validate(release), none);

  pb::TokenizeRequest tokenize;
  tokenize.mutable_prompt()->mutable_prefix()->set_prefix_id("x");
  EXPECT_THAT(Validate(tokenize, kVocab), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prompt.prefix")));
  pb::ScoreRequest score;
  score.mutable_prompt()->set_text("x");
  score.add_continuations()->mutable_prefix()->set_prefix_id("x");
  EXPECT_THAT(Validate(score, kVocab),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("continuations[0].prefix")));
}

}  // namespace
}  // namespace conclave::worker
