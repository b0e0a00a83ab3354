// SPDX-License-Identifier: Apache-2.0
#include "protos/rpc_status.h"

#include "common/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/testing/status_matchers.h"

namespace conclave::rpc {
namespace {

using ::conclave::testing::IsOk;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status wire;
  EXPECT_TRUE(wire.ParseFromString(status.error_details()));
  return wire;
}

TEST(RpcStatus, OkStaysOk) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_OK(FromGrpc(grpc::Status::OK));
  EXPECT_OK(WithReason(absl::OkStatus(), "REASON"));
  EXPECT_OK(BadRequest("GenerateRequest", {}));
}

TEST(RpcStatus, EveryDetailSurvivesTheWire) {
  const std::vector<FieldViolation> violations = {{"sampling.top_p", "1.5 is over 1"}, {"model", "is empty"}};
  const absl::Status sent = WithViolations(
      WithRetryDelay(WithReason(ResourceExhausted("queue of {} is full", 7), "OVERLOADED", {{"queue", "7"}}),
                     1'500'000'000),
      violations);
  const absl::Status got = FromGrpc(ToGrpc(sent));
  EXPECT_EQ(got.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Message(got), "queue of 7 is full");
  EXPECT_EQ(Reason(got), "OVERLOADED");
  EXPECT_THAT(ReasonMetadata(got), ElementsAre(Pair("queue", "7")));
  EXPECT_EQ(Violations(got), violations);
  EXPECT_EQ(RetryDelayNs(got), 1'500'000'000);
}

TEST(RpcStatus, EveryCodeSurvivesTheWire) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status sent = MakeStatus(static_cast<absl::StatusCode>(code), "x");
    const grpc::Status wire = ToGrpc(sent);
    EXPECT_EQ(static_cast<int>(wire.error_code()), code);
    EXPECT_EQ(Details(wire).code(), code);
    EXPECT_EQ(static_cast<int>(FromGrpc(wire).code()), code);
  }
#ifndef __SANITIZE_ADDRESS__  // such a value reaches us from a wire only; UBSan objects to gRPC holding it
  EXPECT_EQ(FromGrpc(grpc::Status(static_cast<grpc::StatusCode>(99), "x")).code(), absl::StatusCode::kUnknown);
#endif
}

TEST(RpcStatus, ReasonInFrontOfTheMessageIsRead) {
  EXPECT_EQ(Reason(InvalidArgument("PROMPT_TOO_LONG: 9000 tokens")), "PROMPT_TOO_LONG");
  EXPECT_EQ(Reason(FailedPrecondition("MODEL_FILE_INVALID a.gguf: is not a GGUF file")), "MODEL_FILE_INVALID");
  EXPECT_EQ(Reason(FailedPrecondition("GGUF files are not served")), "");
  EXPECT_EQ(Reason(FailedPrecondition("MODEL_FILE_INVALIDx y")), "");
  EXPECT_EQ(Reason(InvalidArgument("A: prose")), "");
  EXPECT_EQ(Reason(InvalidArgument("model.gguf: no such tensor")), "");
  const absl::Status got = FromGrpc(ToGrpc(InvalidArgument("PROMPT_TOO_LONG: 9000 tokens")));
  EXPECT_EQ(Reason(WithReason(got, "OTHER")), "OTHER");
  EXPECT_EQ(Reason(got), "PROMPT_TOO_LONG");
}

TEST(RpcStatus, EveryErrorLeavesWithErrorInfo) {
  const google::rpc::Status wire = Details(ToGrpc(Internal("boom")));
  ASSERT_EQ(wire.details_size(), 1);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(wire.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "INTERNAL");
  EXPECT_EQ(info.domain(), "conclave.dev");
}

TEST(RpcStatus, MessageIsCutAtTheLimit) {
  const auto length = [](size_t n) {
    return ToGrpc(MakeStatus(absl::StatusCode::kInternal, std::string(n, 'a'))).error_message().size();
  };
  EXPECT_EQ(length(kMessageBytesMax), size_t{kMessageBytesMax});
  EXPECT_EQ(length(kMessageBytesMax + 1), size_t{kMessageBytesMax});
  // A character that the limit would cut goes whole.
  std::string euros(kMessageBytesMax - 1, 'a');
  euros.append("\xE2\x82\xAC");
  EXPECT_EQ(ToGrpc(MakeStatus(absl::StatusCode::kInternal, euros)).error_message(),
            std::string(kMessageBytesMax - 1, 'a'));
}

TEST(RpcStatus, DetailsStayUnderTheCapAndCountWhatTheyDrop) {
  std::vector<FieldViolation> violations;
  for (int i = 0; i < 500; ++i) violations.push_back({fmt::format("stop_texts[{}]", i), "is longer than 256 bytes"});
  const grpc::Status wire = ToGrpc(BadRequest("GenerateRequest", violations));
  EXPECT_LE(static_cast<int64_t>(wire.error_details().size()), kDetailsBytesMax);
  EXPECT_GT(static_cast<int64_t>(wire.error_details().size()), kDetailsBytesMax - 256);
  const absl::Status got = FromGrpc(wire);
  EXPECT_THAT(Message(got), HasSubstr("and 497 more"));
  const std::vector<FieldViolation> kept = Violations(got);
  ASSERT_GT(kept.size(), 2u);
  EXPECT_EQ(kept.back().description, fmt::format("and {} more violations, not shown", 500 - (kept.size() - 1)));
}

TEST(RpcStatus, HugeMetadataIsDroppedNotSent) {
  const grpc::Status wire = ToGrpc(WithReason(Internal("x"), "R_1", {{"k", std::string(5000, 'v')}}));
  EXPECT_LE(static_cast<int64_t>(wire.error_details().size()), kDetailsBytesMax);
  EXPECT_EQ(Reason(FromGrpc(wire)), "R_1");
}

TEST(RpcStatus, BytesThatAreNotUtf8AreReplaced) {
  EXPECT_EQ(ReplaceInvalidUtf8("a\xFF"
                               "b"),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE2\x82"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(ReplaceInvalidUtf8("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");                  // overlong
  EXPECT_EQ(ReplaceInvalidUtf8("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // surrogate
  EXPECT_EQ(ReplaceInvalidUtf8("\xF4\x90\x80\x80").size(), 12u);                          // > U+10FFFF
  for (const char* whole : {"", "plain", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(ReplaceInvalidUtf8(whole), whole);
  }
  // Such an error still parses at the other side.
  EXPECT_EQ(Message(FromGrpc(ToGrpc(MakeStatus(absl::StatusCode::kInternal, "bad \xFF")))), "bad \xEF\xBF\xBD");
}

TEST(RpcStatus, DetailsFromAStrangerAreIgnoredUnlessTheyParse) {
  const absl::Status got = FromGrpc(grpc::Status(grpc::StatusCode::INTERNAL, "x", "\xFF\xFFnot a proto"));
  EXPECT_EQ(got.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Violations(got), IsEmpty());
  EXPECT_EQ(RetryDelayNs(got), std::nullopt);
}

TEST(RpcStatus, AStrangersRetryDelayIsClamped) {
  EXPECT_EQ(RetryDelayNs(WithRetryDelay(Unavailable("x"), int64_t{1} << 62)),
            int64_t{86'400} * 1'000'000'000 + 427387904);
}

}  // namespace
}  // namespace conclave::rpc
