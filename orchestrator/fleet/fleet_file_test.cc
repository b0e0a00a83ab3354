// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/fleet/fleet_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

absl::StatusOr<LoadedFleet> Load(const std::string& text) {
  testing::TempDir dir;
  EXPECT_OK(WriteFileAtomically(dir.Path("fleet.textproto"), text));
  return LoadFleet(dir.Path("fleet.textproto"), "/home/x");
}

TEST(FleetFile, ResolvesPathsAndBindings) {
  const auto fleet = Load(R"(
member { name: "dense/a" model { path: "~/m.gguf" replicas: 2 } }
member { name: "dense/b" recorded { path: "answers.jsonl" } }
bind { name: "planner" member: "dense/a" }
bind { name: "voters" member: "dense/*" }
)");
  ASSERT_OK(fleet);
  EXPECT_EQ(fleet->fleet.member(0).model().path(), "/home/x/m.gguf");
  EXPECT_THAT(fleet->fleet.member(1).recorded().path(), HasSubstr("/answers.jsonl"));
  ASSERT_EQ(fleet->Bindings().size(), 2u);
  EXPECT_EQ(fleet->Bindings()[1].members(0), "dense/*");
  EXPECT_EQ(fleet->MemberNames(), (std::vector<std::string>{"dense/a", "dense/b"}));
}

TEST(FleetFile, TheScaleModelsMembersAreShipped) {
  const auto fleet = LoadFleet(CONCLAVE_SOURCE_DIR "/zoo/fleet.textproto", "/home/x");
  ASSERT_OK(fleet);
  ASSERT_EQ(fleet->fleet.member_size(), 23);  // twenty members, the mixture after less and more training, the student
  for (const auto& member : fleet->fleet.member()) {
    EXPECT_TRUE(std::filesystem::exists(member.model().path() + "/model.safetensors")) << member.model().path();
  }
}

TEST(FleetFile, NamesEveryMistakeWithItsLine) {
  const auto bad = Load(R"(member { name: "a b" model { path: "m" } }
member { name: "a" }
member { name: "a" worker_address: "localhost" }
member { name: "c" model { path: "m" kernel: "avx1" threads: 0 device: "tpu" } }
bind { name: "x" member: "cc" }
)");
  ASSERT_THAT(bad, StatusIs(absl::StatusCode::kInvalidArgument));
  const std::string text(bad.status().message());
  for (const char* part : {":1: member name is \"a b\"", ":2: member \"a\": says not where",
                           ":3: member \"a\": another member", ":3: member \"a\": worker_address is \"localhost\"",
                           ":4: member \"c\": kernel is \"avx1\"", ":4: member \"c\": threads is 0",
                           ":4: member \"c\": device is \"tpu\"", ":5: bind \"x\": \"cc\" is no member"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(Load("membr { }"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(":1")));
  EXPECT_THAT(Load(""), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("has no member")));
}

TEST(FleetFile, NumbersOfAModelAreHeldToTheirLimits) {
  const auto with = [](const std::string& field) {
    return Load("member { name: \"c\" model { path: \"m\" " + field + " } }\n").status();
  };
  for (const auto& [field, max] :
       {std::pair("threads", kThreadsMax), std::pair("replicas", kReplicasMax), std::pair("ranks", kRanksMax),
        std::pair("context_tokens", kContextTokensMax), std::pair("sequences", kSequencesMax)}) {
    EXPECT_OK(with(fmt::format("{}: {}", field, max)));
    EXPECT_OK(with(fmt::format("{}: 1", field)));
    for (const int beyond : {0, max + 1}) {
      EXPECT_THAT(with(fmt::format("{}: {}", field, beyond)),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           HasSubstr(fmt::format(":1: member \"c\": {} is {}; 1 to {} are", field, beyond, max))));
    }
  }
  EXPECT_OK(with("device: \"cuda\" ranks: 1"));
  EXPECT_THAT(with("device: \"cuda\" ranks: 2"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("CPUs only")));
}

TEST(FleetFile, WorkersOverTlsAreNamedWithWhatTrustsThem) {
  const std::string member = "member { name: \"a\" worker_address: \"h:1\" }\n";
  const auto fleet = Load(member + "worker_tls { authorities: \"ca.pem\" certificate: \"~/me.pem\" key: \"/k.pem\" }");
  ASSERT_OK(fleet);
  EXPECT_THAT(fleet->fleet.worker_tls().authorities(), ::testing::EndsWith("/ca.pem"));
  EXPECT_NE(fleet->fleet.worker_tls().authorities(), "ca.pem");
  EXPECT_EQ(fleet->fleet.worker_tls().certificate(), "/home/x/me.pem");
  EXPECT_EQ(fleet->fleet.worker_tls().key(), "/k.pem");
  for (const auto& [text, part] :
       {std::pair(member + "worker_tls { }", ":2: worker_tls: names no authorities"),
        std::pair(member + "worker_tls { authorities: \"a\" key: \"k\" }", "key is \"k\"; both or neither"),
        std::pair(std::string("member { name: \"a\" model { path: \"m\" } }\nworker_tls { authorities: \"a\" }"),
                  "no member has a worker_address")}) {
    EXPECT_THAT(Load(text), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(part)));
  }
}

TEST(FleetFile, WeightsComeFromTheDevelopmentSplit) {
  const auto fleet = Load(
      "member { name: \"a\" worker_address: \"h:1\" development { correct: 9 total: 10 } }\n"
      "member { name: \"b\" worker_address: \"h:1\" development { correct: 1 total: 10 } }\n"
      "member { name: \"c\" worker_address: \"h:1\" }\n"
      "member { name: \"d\" worker_address: \"h:1\" weight: 3 development { correct: 5 total: 10 } }\n"
      "development_weights { answers: 5 shrink: 15 }\n");
  ASSERT_OK(fleet);
  // The pool is 15 of 30: p = (9 + 7.5) / 25 and (1 + 7.5) / 25.
  EXPECT_DOUBLE_EQ(fleet->fleet.member(0).weight(), std::log(0.66 * 4 / 0.34));
  EXPECT_DOUBLE_EQ(fleet->fleet.member(1).weight(), std::log(0.34 * 4 / 0.66));
  EXPECT_FALSE(fleet->fleet.member(2).has_weight());
  EXPECT_EQ(fleet->fleet.member(3).weight(), 3) << "what is said counts";
  const auto bad = Load(
      "member { name: \"a\" worker_address: \"h:1\" development { correct: 11 total: 10 } }\n"
      "development_weights { answers: 1 shrink: -1 clip: 0.5 }\n");
  const std::string text(Message(bad.status()));
  for (const char* part : {":1: member \"a\": development is 11 right of 10", ":2: development_weights: answers is 1",
                           "shrink is -1", "clip is 0.5"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(FleetFile, HoldsItsLimits) {
  std::string text;
  for (int i = 0; i < kFleetMembersMax; ++i)
    text += fmt::format("member {{ name: \"m{}\" worker_address: \"h:1\" }}\n", i);
  EXPECT_OK(Load(text));
  EXPECT_THAT(Load(text + "member { name: \"more\" worker_address: \"h:1\" }"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  const auto replicas = [](int n) {
    return Load(fmt::format("member {{ name: \"m\" model {{ path: \"p\" replicas: {} }} }}", n));
  };
  EXPECT_OK(replicas(kReplicasMax));
  EXPECT_THAT(replicas(kReplicasMax + 1), StatusIs(absl::StatusCode::kInvalidArgument));
  const auto name = [](size_t n) {
    return Load(fmt::format("member {{ name: \"{}\" worker_address: \"h:1\" }}", std::string(n, 'a')));
  };
  EXPECT_OK(name(kMemberNameMax));
  EXPECT_THAT(name(kMemberNameMax + 1), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(FleetFile, ServersOfOthersAreChecked) {
  const auto good = Load(R"(member { name: "a" openai { url: "https://api.example.com/v1" model: "m" api_key_env: "KEY"
    capability: SEED capability: LOGPROBS parallel_calls: 256 authorities: "ca.pem" } }
member { name: "b" openai { url: "http://10.0.0.1:8000/v1" } }
member { name: "c" openai { url: "http://127.0.0.1:8000/v1" api_key_env: "KEY" parallel_calls: 1 } })");
  ASSERT_OK(good);
  EXPECT_THAT(good->fleet.member(0).openai().authorities(), HasSubstr("/ca.pem"));
  const auto bad = Load(R"(member { name: "a" openai { url: "api.example.com" } }
member { name: "b" openai { url: "http://10.0.0.1:8000/v1" api_key_env: "KEY" } }
member { name: "c" openai { url: "http://h/v1" parallel_calls: 257 } }
member { name: "d" openai { url: "http://h/v1" parallel_calls: 0 } }
member { name: "e" openai { url: "http://h/v1" capability: SEED capability: SEED } }
member { name: "f" openai { url: "http://h/v1" capability: CAPABILITY_UNSPECIFIED } }
)");
  ASSERT_THAT(bad, StatusIs(absl::StatusCode::kInvalidArgument));
  const std::string text(bad.status().message());
  for (const char* part : {":1: member \"a\": url", ":2: member \"b\": http://10.0.0.1:8000/v1 would carry its key",
                           ":3: member \"c\": parallel_calls is 257; 1 to 256", ":4: member \"d\": parallel_calls is 0",
                           ":5: member \"e\": capability SEED is there twice", ":6: member \"f\": capability"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

}  // namespace
}  // namespace conclave::orchestrator
