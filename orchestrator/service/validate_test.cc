// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/validate.h"

#include <limits>

#include "orchestrator/role/role.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::Contains;
using ::testing::ElementsAre;

pb::RunRequest Good() {
  pb::RunRequest request;
  request.set_graph_name("vote");
  (*request.mutable_inputs())["question"] = "q";
  return request;
}

std::vector<std::string> Fields(const absl::Status& status) {
  std::vector<std::string> fields;
  for (const rpc::FieldViolation& violation : rpc::Violations(status)) fields.push_back(violation.field);
  return fields;
}

TEST(Validate, APlainRequestIsFine) { EXPECT_OK(Validate(Good())); }

TEST(Validate, EveryViolationIsNamedAtOnce) {
  pb::RunRequest request;
  request.set_request_id(std::string(65, 'x'));
  request.mutable_budget()->set_calls(-1);
  request.mutable_budget()->set_flops(std::numeric_limits<double>::quiet_NaN());
  request.mutable_budget()->mutable_wall_time()->set_seconds(-1);
  request.mutable_sampling()->set_temperature(std::numeric_limits<float>::quiet_NaN());
  request.mutable_sampling()->set_max_output_tokens(0);
  request.mutable_sampling()->add_stop("");
  request.add_bindings();
  const absl::Status status = Validate(request);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Fields(status), ElementsAre("request_id", "graph_source", "bindings[0].name", "bindings[0].members",
                                          "budget.calls", "budget.flops", "budget.wall_time", "sampling.temperature",
                                          "sampling.max_output_tokens", "sampling.stop[0]"));
}

TEST(Validate, LimitsHoldAtTheLimitAndNotAboveIt) {
  const auto expect = [](const pb::RunRequest& request, const char* field) {
    if (field == nullptr) {
      EXPECT_OK(Validate(request));
    } else {
      EXPECT_THAT(Fields(Validate(request)), Contains(field));
    }
  };
  pb::RunRequest request = Good();
  request.set_request_id(std::string(kRequestIdCharsMax, 'x'));
  expect(request, nullptr);
  request.mutable_request_id()->push_back('x');
  expect(request, "request_id");

  request = Good();
  for (int i = 1; i < kInputsMax; ++i) (*request.mutable_inputs())[std::to_string(i)] = "";
  expect(request, nullptr);
  (*request.mutable_inputs())["more"] = "";
  expect(request, "inputs");

  request = Good();
  (*request.mutable_inputs())["question"] = std::string(static_cast<size_t>(kInputBytesMax) - 8, 'q');
  expect(request, nullptr);
  (*request.mutable_inputs())["question"].push_back('q');
  expect(request, "inputs");

  request = Good();
  for (int i = 0; i < kBindingsMax; ++i) {
    request.add_bindings()->set_name("n");
    request.mutable_bindings(i)->add_members("m");
  }
  expect(request, nullptr);
  *request.add_bindings() = request.bindings(0);
  expect(request, "bindings");

  request = Good();
  for (int i = 0; i < kRunStopTextsMax; ++i) {
    request.mutable_sampling()->add_stop(std::string(static_cast<size_t>(kRunStopTextBytesMax), 's'));
  }
  expect(request, nullptr);
  request.mutable_sampling()->add_stop("s");
  expect(request, "sampling.stop");

  request = Good();
  request.mutable_result_constraint();
  expect(request, "result_constraint");
  request.mutable_result_constraint()->set_json_schema(std::string(kConstraintBytesMax, ' '));
  expect(request, nullptr);
  request.mutable_result_constraint()->set_grammar(std::string(kConstraintBytesMax + 1, ' '));
  expect(request, "result_constraint.grammar");

  request = Good();
  for (const int32_t count : {0, kResultLogprobsMax}) {
    request.set_result_logprob_count(count);
    expect(request, nullptr);
  }
  for (const int32_t count : {-1, kResultLogprobsMax + 1}) {
    request.set_result_logprob_count(count);
    expect(request, "result_logprob_count");
  }
}

TEST(Validate, AGraphIsNamedNotPathed) {
  pb::RunRequest request = Good();
  for (const char* name : {"", "/etc/passwd", "../vote", "vote.textproto"}) {
    request.set_graph_name(name);
    EXPECT_THAT(Fields(Validate(request)), ElementsAre("graph_name")) << name;
  }
}

TEST(Validate, Pages) {
  pb::ListRunsRequest request;
  EXPECT_EQ(Validate(request)->size, kPageSizeDefault);
  request.set_page_size(kPageSizeMax);
  request.set_page_token(PageToken(17));
  EXPECT_EQ(Validate(request)->size, kPageSizeMax);
  EXPECT_EQ(Validate(request)->before_number, 17);
  request.set_page_size(kPageSizeMax + 1);
  EXPECT_THAT(Fields(Validate(request).status()), ElementsAre("page_size"));
  request.set_page_size(0);
  EXPECT_THAT(Fields(Validate(request).status()), ElementsAre("page_size"));
  request.clear_page_size();
  for (const char* token : {"x", "-1", "0", "17 ", "99999999999999999999"}) {
    request.set_page_token(token);
    EXPECT_THAT(Fields(Validate(request).status()), ElementsAre("page_token")) << token;
  }
}

TEST(Validate, WatchAndGraphText) {
  pb::WatchRequest watch;
  watch.set_after_sequence_number(-1);
  EXPECT_THAT(Fields(Validate(watch)), ElementsAre("run_id", "after_sequence_number"));
  pb::ValidateGraphRequest graph;
  EXPECT_THAT(Fields(Validate(graph)), ElementsAre("graph_textproto"));
  graph.set_graph_textproto(std::string(static_cast<size_t>(kGraphTextBytesMax), 'x'));
  EXPECT_OK(Validate(graph));
  graph.mutable_graph_textproto()->push_back('x');
  EXPECT_THAT(Fields(Validate(graph)), ElementsAre("graph_textproto"));
}

}  // namespace
}  // namespace conclave::orchestrator
