// SPDX-License-Identifier: Apache-2.0
// `conclave run`: a graph over many questions.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/remote_session.h"
#include "cli/session.h"
#include "common/file.h"
#include "common/hash.h"
#include "common/mutex.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using Json = nlohmann::ordered_json;
using deliberation::v1::RunRequest;

constexpr size_t kQuestionsMax = 1'000'000;
constexpr int64_t kRunNameBytesMax = 64;

struct Arguments {
  std::string graph, input, out;
  std::vector<std::string> binds;
  uint64_t seed = 0;
  int32_t concurrency = 4;
  SessionFlags session;
};

// One request per line. `salt` makes request ids this directory's own where others' runs lie in the same store.
absl::StatusOr<std::vector<RunRequest>> ReadQuestions(const Arguments& a, const std::string& salt) {
  ASSIGN_OR_RETURN(const std::string text, ReadMaybeGzip(a.input));
  std::vector<RunRequest> requests;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object()) return InvalidArgument("{}:{}: is not a JSON object", a.input, number);
    if (!row.contains("question") || !row["question"].is_string())
      return InvalidArgument("{}:{}: has no \"question\"", a.input, number);
    if (requests.size() == kQuestionsMax)
      return ResourceExhausted("{}:{}: more than {} questions", a.input, number, kQuestionsMax);
    RunRequest& request = requests.emplace_back();
    request.set_graph_name(a.graph);
    (*request.mutable_inputs())["question"] = row["question"].get<std::string>();
    const std::string id = !row.contains("id")     ? fmt::format("{}", requests.size())
                           : row["id"].is_string() ? row["id"].get<std::string>()
                                                   : row["id"].dump();
    request.set_item_id(id);
    request.set_request_id(Sha256Hex(fmt::format("run{}\x1f{}\x1f{}", salt, number, id)).substr(0, 40));
    request.set_seed(Mix64(a.seed ^ Fnv1a64(id)));
    for (const std::string& bind : a.binds) {
      ASSIGN_OR_RETURN(*request.add_bindings(), ParseBinding(bind));
    }
  }
  if (requests.empty()) return InvalidArgument("{}: holds no questions", a.input);
  return requests;
}

std::string ResultLine(const RunRequest& request, const experiment::RunRecord& record) {
  Json json = {{"id", request.item_id()}};
  for (const auto& event : record.events) {
    if (!event.has_run_finished()) continue;
    const auto& f = event.run_finished();
    json.update({{"state", deliberation::v1::RunState_Name(f.state())},
                 {"answer", f.has_answer() ? Json(f.answer()) : Json()},
                 {"text", f.text()},
                 {"message", f.message()},
                 {"calls", f.ledger().calls()},
                 {"prompt_tokens", f.ledger().prompt_tokens()},
                 {"output_tokens", f.ledger().output_tokens()},
                 {"flops", f.ledger().flops()},
                 {"seconds", record.seconds}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Starts everything, `concurrency` at a time; returns when all have ended.
absl::Status RunEach(const std::vector<RunRequest>& requests, int32_t concurrency, experiment::Deliberator& deliberator,
                     const std::atomic<bool>& stop) {
  Mutex mutex;
  CondVar changed;
  int32_t running = 0;
  size_t ended = 0;
  absl::Status first;
  for (const RunRequest& request : requests) {
    {
      MutexLock lock(&mutex);
      while (running >= concurrency && first.ok() && !stop) changed.WaitWithTimeout(&mutex, 100'000'000);
      if (!first.ok() || stop) break;
      ++running;
    }
    deliberator.Start(request, [&](const absl::Status& status) {
      MutexLock lock(&mutex);
      --running;
      ++ended;
      if (!status.ok() && first.ok()) first = status;
      if (ended % 10 == 0 || ended == requests.size()) fmt::print(stderr, "{}/{} questions\n", ended, requests.size());
      changed.SignalAll();
    });
  }
  if (stop) deliberator.Stop();
  MutexLock lock(&mutex);
  while (running > 0) changed.Wait(&mutex);
  if (stop) return Cancelled("stopped; the same command goes on from here");
  return first;
}

// What this directory calls itself in an orchestrator's store, so that the same command finds its runs again.
absl::StatusOr<std::string> NameOf(const std::string& directory) {
  const std::string path = directory + "/run_name";
  auto name = ReadFile(path, kRunNameBytesMax);
  if (!absl::IsNotFound(name.status())) return name;
  const std::string fresh = FreshRequestId();
  RETURN_IF_ERROR(WriteFileAtomically(path, fresh));
  return fresh;
}

absl::Status RunQuestions(const Arguments& a) {
  const std::atomic<bool>& stop = StopFlag();
  RETURN_IF_ERROR(ReadQuestions(a, "").status());  // before anything is made
  std::error_code error;
  std::filesystem::create_directories(a.out, error);
  if (error) return Internal("{}: cannot be created: {}", a.out, error.message());
  std::string salt;
  if (!a.session.OrchestratorAddress().empty()) {
    ASSIGN_OR_RETURN(salt, NameOf(a.out));
  }
  ASSIGN_OR_RETURN(const auto requests, ReadQuestions(a, salt));
  SessionFlags flags = a.session;
  flags.store = a.out + "/store.sqlite";
  if (!requests.empty()) flags.requests_needed = {requests[0]};  // all have its graph and its seats
  ASSIGN_OR_RETURN(auto session, Session::Open(flags));
  RETURN_IF_ERROR(RunEach(requests, a.concurrency, session->deliberator(), stop));
  std::string results;
  for (const RunRequest& request : requests) {
    ASSIGN_OR_RETURN(const auto record, session->deliberator().Read(request.request_id()));
    results += ResultLine(request, record) + "\n";
  }
  const std::string path = a.out + "/results.jsonl";
  RETURN_IF_ERROR(WriteFileAtomically(path, results));
  fmt::print("{}\n", path);
  return absl::OkStatus();
}

}  // namespace

void AddRun(CLI::App* app, Chosen* chosen) {
  auto* command =
      app->add_subcommand("run", "A graph over many questions; stopped or killed, the same command goes on");
  command->footer(
      "Example: conclave run vote --input questions.jsonl --out runs/vote --fleet fleet.textproto\n"
      "Lines hold \"question\", perhaps \"id\" and further inputs of the graph.");
  auto a = std::make_shared<Arguments>();
  command->add_option("GRAPH", a->graph, "A shipped graph's name or a file")->required();
  command->add_option("--input", a->input, "Questions (JSONL)")->required();
  command
      ->add_option("--out", a->out,
                   "Directory for results.jsonl and store.sqlite (an orchestrator keeps its own store)")
      ->required();
  command->add_option("--bind", a->binds, "ROLE=MEMBER,.. (repeatable)");
  command->add_option("--seed", a->seed, "Same seed, same words")->capture_default_str();
  command->add_option("--concurrency", a->concurrency, "Deliberations at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  a->session.Add(command, /*with_store=*/false);
  command->callback([=] { chosen->action = [=] { return Report(RunQuestions(*a)); }; });
}

}  // namespace conclave::cli
