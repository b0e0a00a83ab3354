// SPDX-License-Identifier: Apache-2.0
// `conclave ask`: one deliberation, streamed to the terminal.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/live_view.h"
#include "cli/session.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using deliberation::v1::Event;
using deliberation::v1::RunFinished;
using deliberation::v1::RunRequest;

struct Arguments {
  std::string question, graph = "council";
  std::vector<std::string> binds;
  SessionFlags session;
  Output output;
  uint64_t seed = 0;
  int64_t budget_output_tokens = 0, budget_calls = 0;
  double budget_seconds = 0;
  bool full = false;
};

absl::StatusOr<RunRequest> RequestOf(const Arguments& a, const std::string& question) {
  RunRequest request;
  request.set_graph_name(a.graph);
  (*request.mutable_inputs())["question"] = question;
  for (const std::string& bind : a.binds) {
    ASSIGN_OR_RETURN(*request.add_bindings(), ParseBinding(bind));
  }
  request.set_seed(a.seed);
  request.set_stream_tokens(true);
  auto* budget = request.mutable_budget();
  budget->set_on_exhausted(deliberation::v1::Budget::RETURN_BEST);
  if (a.budget_output_tokens > 0) budget->set_output_tokens(a.budget_output_tokens);
  if (a.budget_calls > 0) budget->set_calls(a.budget_calls);
  if (a.budget_seconds > 0) {
    budget->mutable_wall_time()->set_seconds(static_cast<int64_t>(a.budget_seconds));
    budget->mutable_wall_time()->set_nanos(
        static_cast<int32_t>((a.budget_seconds - static_cast<double>(budget->wall_time().seconds())) * 1e9));
  }
  return request;
}

void PrintJson(const RunFinished& finished) {
  const auto& ledger = finished.ledger();
  const nlohmann::ordered_json json = {
      {"state", deliberation::v1::RunState_Name(finished.state())},
      {"answer", finished.has_answer() ? nlohmann::ordered_json(finished.answer()) : nlohmann::ordered_json()},
      {"text", finished.text()},
      {"message", finished.message()},
      {"best_effort", finished.best_effort()},
      {"holes", finished.hole_count()},
      {"ledger",
       {{"calls", ledger.calls()},
        {"prompt_tokens", ledger.prompt_tokens()},
        {"cached_tokens", ledger.cached_tokens()},
        {"output_tokens", ledger.output_tokens()},
        {"discarded_tokens", ledger.discarded_tokens()},
        {"flops", ledger.flops()},
        {"saved_flops", ledger.saved_flops()},
        {"weight_bytes", ledger.weight_bytes()},
        {"kv_bytes", ledger.kv_bytes()},
        {"worker_seconds", ledger.worker_seconds()},
        {"estimated", ledger.estimated()}}}};
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

int Ask(const Arguments& a) {
  const std::atomic<bool>& stop = StopFlag();
  std::string question = a.question;
  if (question == "-") {
    auto text = ReadStdin(1 << 20);
    if (!text.ok()) return Report(text.status());
    question = *std::move(text);
  }
  const auto request = RequestOf(a, question);
  if (!request.ok()) return Report(request.status());
  SessionFlags flags = a.session;
  flags.requests_needed = {*request};
  auto session = Session::Open(flags);
  if (!session.ok()) return Report(session.status());
  LiveView view(stdout, {a.output.colour(), a.output.live(), TerminalWidth(stdout), a.full ? 0 : 12});
  const auto finished = (*session)->Run(
      *request,
      [&](const Event& event) {
        if (!a.output.json) view.OnEvent(event);
      },
      stop);
  if (!finished.ok()) return Report(finished.status());
  if (a.output.json) PrintJson(*finished);
  if (finished->state() == deliberation::v1::RUN_STATE_SUCCEEDED) return kOk;
  const auto code = static_cast<absl::StatusCode>(finished->code());
  const bool exhausted = code == absl::StatusCode::kResourceExhausted || code == absl::StatusCode::kDeadlineExceeded;
  return exhausted ? kExhausted : kFailed;
}

}  // namespace

void AddAsk(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("ask", "One deliberation, streamed: who speaks, verdicts, votes, cost");
  command->footer(
      "Example: conclave ask \"What is 17 * 23?\" --graph council --fleet fleet.textproto\n"
      "     or: conclave ask \"What is 17 * 23?\" --model model.gguf\n"
      "     or: conclave ask \"What is 17 * 23?\" --orchestrator 127.0.0.1:50061 (see conclave up)");
  auto a = std::make_shared<Arguments>();
  command->add_option("question", a->question, "The question, or - for standard input")->required();
  command->add_option("--graph", a->graph, "A shipped graph's name or a file")->capture_default_str();
  command->add_option("--bind", a->binds, "ROLE=MEMBER,.. (repeatable): who sits in a seat of the graph");
  command->add_option("--seed", a->seed, "Same seed, same words")->capture_default_str();
  command->add_option("--budget-output-tokens", a->budget_output_tokens, "At most so many; 0: the graph's own")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--budget-calls", a->budget_calls, "At most so many; 0: the graph's own")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--budget-seconds", a->budget_seconds, "At most so long; 0: the graph's own")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--full", a->full, "Every word, not the first lines only");
  a->session.Add(command, /*with_store=*/true);
  AddOutputFlags(command, &a->output);
  command->callback([=] { chosen->action = [=] { return Ask(*a); }; });
}

}  // namespace conclave::cli
