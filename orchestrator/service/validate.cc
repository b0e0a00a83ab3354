// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/validate.h"

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "orchestrator/role/role.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

// Collects violations by field path.
class Violations {
 public:
  void Require(bool holds, std::string_view field, std::string description) {
    if (!holds) found_.push_back({std::string(field), std::move(description)});
  }
  void Size(int64_t size, int64_t max, std::string_view field, std::string_view unit) {
    Require(size <= max, field, fmt::format("{} {}, at most {}", size, unit, max));
  }
  absl::Status ToStatus(std::string_view message) const { return rpc::BadRequest(message, found_); }

 private:
  std::vector<rpc::FieldViolation> found_;
};

void CheckBudget(const pb::Budget& budget, Violations* out) {
  const auto at_least_zero = [&](bool present, double value, std::string_view field) {
    out->Require(!present || (std::isfinite(value) && value >= 0), field, "must be 0 or more");
  };
  at_least_zero(budget.has_prompt_tokens(), static_cast<double>(budget.prompt_tokens()), "budget.prompt_tokens");
  at_least_zero(budget.has_output_tokens(), static_cast<double>(budget.output_tokens()), "budget.output_tokens");
  at_least_zero(budget.has_calls(), static_cast<double>(budget.calls()), "budget.calls");
  at_least_zero(budget.has_flops(), budget.flops(), "budget.flops");
  if (budget.has_wall_time()) {
    const auto& time = budget.wall_time();
    out->Require(time.seconds() >= 0 && time.nanos() >= 0 && time.nanos() < 1'000'000'000, "budget.wall_time",
                 "must be a duration of 0 or more");
    out->Require(time.seconds() <= 366LL * 24 * 3600, "budget.wall_time", "at most 366 days");
  }
  out->Require(pb::Budget::OnExhausted_IsValid(budget.on_exhausted()), "budget.on_exhausted", "unknown value");
}

void CheckSampling(const pb::SamplingDefaults& s, Violations* out) {
  const auto range = [&](bool present, double value, double low, double high, std::string_view field) {
    out->Require(!present || (value >= low && value <= high), field,
                 fmt::format("{} is not in [{}, {}]", value, low, high));
  };
  range(s.has_temperature(), s.temperature(), 0, 100, "sampling.temperature");
  range(s.has_top_k(), s.top_k(), 0, 1 << 30, "sampling.top_k");
  range(s.has_top_p(), s.top_p(), 1e-9, 1, "sampling.top_p");
  range(s.has_min_p(), s.min_p(), 0, 0.999999, "sampling.min_p");
  range(s.has_repetition_penalty(), s.repetition_penalty(), 1e-6, 10, "sampling.repetition_penalty");
  range(s.has_max_output_tokens(), s.max_output_tokens(), 1, 1 << 24, "sampling.max_output_tokens");
  out->Size(s.stop_size(), kRunStopTextsMax, "sampling.stop", "texts");
  for (int i = 0; i < s.stop_size(); ++i) {
    const std::string field = fmt::format("sampling.stop[{}]", i);
    out->Size(static_cast<int64_t>(s.stop(i).size()), kRunStopTextBytesMax, field, "bytes");
    out->Require(!s.stop(i).empty(), field, "is empty");
  }
}

void CheckBindings(const google::protobuf::RepeatedPtrField<pb::Binding>& bindings, Violations* out) {
  out->Size(bindings.size(), kBindingsMax, "bindings", "entries");
  for (int i = 0; i < bindings.size() && i <= kBindingsMax; ++i) {
    const std::string field = fmt::format("bindings[{}]", i);
    const pb::Binding& binding = bindings[i];
    out->Require(!binding.name().empty(), field + ".name", "is empty; name a seat of the graph");
    out->Size(static_cast<int64_t>(binding.name().size()), kNameBytesMax, field + ".name", "bytes");
    out->Require(binding.members_size() > 0, field + ".members", "is empty; name a member or a glob");
    out->Size(binding.members_size(), kBindingMembersMax, field + ".members", "entries");
    for (int m = 0; m < binding.members_size() && m <= kBindingMembersMax; ++m) {
      out->Size(static_cast<int64_t>(binding.members(m).size()), kNameBytesMax, fmt::format("{}.members[{}]", field, m),
                "bytes");
    }
  }
}

void CheckConstraint(const pb::OutputConstraint& constraint, Violations* out) {
  const std::string field = "result_constraint";
  switch (constraint.constraint_case()) {
    case pb::OutputConstraint::kJsonSchema:
      return out->Size(std::ssize(constraint.json_schema()), kConstraintBytesMax, field + ".json_schema", "bytes");
    case pb::OutputConstraint::kRegex:
      return out->Size(std::ssize(constraint.regex()), kConstraintBytesMax, field + ".regex", "bytes");
    case pb::OutputConstraint::kGrammar:
      return out->Size(std::ssize(constraint.grammar()), kConstraintBytesMax, field + ".grammar", "bytes");
    case pb::OutputConstraint::CONSTRAINT_NOT_SET:
      return out->Require(false, field, "is empty; set json_schema, regex or grammar");
  }
}

}  // namespace

absl::Status Validate(const pb::RunRequest& request) {
  Violations out;
  out.Size(static_cast<int64_t>(request.request_id().size()), kRequestIdCharsMax, "request_id", "characters");
  out.Require(request.graph_source_case() != pb::RunRequest::GRAPH_SOURCE_NOT_SET, "graph_source",
              "is missing; set graph_name or graph");
  // A path would read a file of this machine for whoever calls.
  if (request.has_graph_name()) {
    out.Require(!request.graph_name().empty() && request.graph_name().find('/') == std::string::npos &&
                    !request.graph_name().ends_with(".textproto"),
                "graph_name", "must be the name of a shipped graph, not a path");
    out.Size(static_cast<int64_t>(request.graph_name().size()), kNameBytesMax, "graph_name", "bytes");
  }
  out.Size(request.inputs_size(), kInputsMax, "inputs", "entries");
  int64_t bytes = 0;
  for (const auto& [name, value] : request.inputs()) bytes += static_cast<int64_t>(name.size() + value.size());
  out.Size(bytes, kInputBytesMax, "inputs", "bytes together");
  out.Size(static_cast<int64_t>(request.item_id().size()), kItemIdBytesMax, "item_id", "bytes");
  CheckBindings(request.bindings(), &out);
  if (request.has_budget()) CheckBudget(request.budget(), &out);
  if (request.has_sampling()) CheckSampling(request.sampling(), &out);
  if (request.has_result_logprob_count()) {
    out.Require(request.result_logprob_count() >= 0 && request.result_logprob_count() <= kResultLogprobsMax,
                "result_logprob_count", fmt::format("must be from 0 to {}", kResultLogprobsMax));
  }
  if (request.has_result_constraint()) CheckConstraint(request.result_constraint(), &out);
  return out.ToStatus("RunRequest");
}

absl::Status Validate(const pb::WatchRequest& request) {
  Violations out;
  out.Require(!request.run_id().empty(), "run_id", "is empty");
  out.Require(request.after_sequence_number() >= 0, "after_sequence_number", "must be 0 or more");
  return out.ToStatus("WatchRequest");
}

absl::Status Validate(const pb::ValidateGraphRequest& request) {
  Violations out;
  out.Require(!request.graph_textproto().empty(), "graph_textproto", "is empty");
  out.Size(static_cast<int64_t>(request.graph_textproto().size()), kGraphTextBytesMax, "graph_textproto", "bytes");
  out.Size(static_cast<int64_t>(request.file_name().size()), kNameBytesMax, "file_name", "bytes");
  CheckBindings(request.bindings(), &out);
  return out.ToStatus("ValidateGraphRequest");
}

absl::StatusOr<RunsPage> Validate(const pb::ListRunsRequest& request) {
  Violations out;
  RunsPage page;
  if (request.has_page_size()) {
    out.Require(request.page_size() >= 1 && request.page_size() <= kPageSizeMax, "page_size",
                fmt::format("{} is not in [1, {}]", request.page_size(), kPageSizeMax));
    page.size = request.page_size();
  }
  if (const std::string& token = request.page_token(); !token.empty()) {
    const char* const end = token.data() + token.size();
    const auto [stop, code] = std::from_chars(token.data(), end, page.before_number);
    out.Require(code == std::errc() && stop == end && page.before_number > 0, "page_token",
                "is not one of a ListRuns response");
  }
  RETURN_IF_ERROR(out.ToStatus("ListRunsRequest"));
  return page;
}

std::string PageToken(int64_t before_number) { return std::to_string(before_number); }

}  // namespace conclave::orchestrator
