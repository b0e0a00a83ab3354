// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/council_workload.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/check.h"
#include "common/hash.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/backend/fake_backend.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/executor.h"

namespace conclave::bench {
namespace {

namespace pb = ::conclave::deliberation::v1;
using orchestrator::CallRequest;
using orchestrator::FakeAnswer;

constexpr int kMembers = 20, kVerifiers = 3, kRounds = 2;
constexpr int kRightPercent[] = {20, 35, 50, 65, 80};
constexpr int kAcceptPercent = 60;
constexpr std::string_view kCritique =
    "The reasoning names every quantity once and uses each of them. The second step could state its unit. "
    "I recomputed the last product and sum and found the same figure. Check that the question asks for a total, "
    "not for a remainder.";

std::string MemberReply(const std::vector<CouncilQuestion>& questions, int q, int round, int index) {
  const uint64_t h = Fnv1a64(fmt::format("{}|{}|member|{}", q, round, index));
  const CouncilQuestion& question = questions[static_cast<size_t>(q)];
  if (h % 100 < static_cast<uint64_t>(kRightPercent[q % 5])) return question.steps + "#### " + question.gold;
  const int64_t wrong = static_cast<int64_t>(std::stod(question.gold)) + 1 + static_cast<int64_t>((h >> 8) % 7);
  return question.steps + "#### " + std::to_string(wrong);
}

std::string VerifierReply(int q, int round, int index) {
  const bool accept = Fnv1a64(fmt::format("{}|{}|verifier|{}", q, round, index)) % 100 < kAcceptPercent;
  return fmt::format("I checked each step against the question.\nVERDICT: {}", accept ? "accept" : "reject");
}

std::string Digest(const std::vector<std::pair<std::string, int>>& results) {
  std::string json = "[";
  for (const auto& [answer, rounds] : results) {
    json += fmt::format("{}[\"{}\", {}]", json.size() > 1 ? ", " : "", answer, rounds);
  }
  return Sha256Hex(json + "]").substr(0, 12);
}

// Reads "[[q=17 round=0 role=member index=3]]" and nothing else of a prompt.
struct Tag {
  int q = 0, round = 0, index = 0;
  char role = 'm';
};
Tag ReadTag(std::string_view prompt) {
  Tag tag;
  const auto number = [&prompt](std::string_view name) {
    const size_t at = prompt.find(name) + name.size();
    int value = 0;
    for (size_t i = at; i < prompt.size() && prompt[i] >= '0' && prompt[i] <= '9'; ++i) {
      value = value * 10 + (prompt[i] - '0');
    }
    return value;
  };
  tag.q = number("[[q=");
  tag.round = number(" round=");
  tag.role = prompt[prompt.find(" role=") + 6];
  tag.index = number(" index=");
  return tag;
}

// Every reply, made before the clock starts, so that one costs a look-up.
class Replies {
 public:
  explicit Replies(const std::vector<CouncilQuestion>& questions) {
    for (int q = 0; q < static_cast<int>(questions.size()); ++q) {
      for (int round = 0; round < kRounds; ++round) {
        for (int i = 0; i < kMembers; ++i) replies_.push_back(MemberReply(questions, q, round, i));
        for (int i = 0; i < kVerifiers; ++i) replies_.push_back(VerifierReply(q, round, i));
      }
    }
  }
  FakeAnswer operator()(const CallRequest& request) const {
    const Tag tag = ReadTag(request.prompt.back().content());
    if (tag.role == 'c') return orchestrator::Says(std::string(kCritique));
    const int place = tag.role == 'm' ? tag.index : kMembers + tag.index;
    return orchestrator::Says(
        replies_[static_cast<size_t>((tag.q * kRounds + tag.round) * (kMembers + kVerifiers) + place)]);
  }

 private:
  std::vector<std::string> replies_;
};

std::string Role(std::string_view name, int round, std::string_view role, std::string_view index, std::string_view task,
                 std::string_view contract) {
  return fmt::format("name: \"{}{}\" task: \"[[q={{{{ q }}}} round={} role={} index={{{{ {} }}}}]]\\n{}\" {}", name,
                     round, round, role, index, task, contract);
}

std::string Round(int round) {
  const std::string sees = round == 0 ? "" : fmt::format("sees {{ node: \"critic{}\" }}", round - 1);
  return fmt::format(
      "node {{ name: \"critic{0}\" speak {{ role: \"critic{0}\" members: \"critic\" sees {{ node: \"win{0}\" }} }} }}"
      "node {{ name: \"verify{0}\" judge {{ role: \"verifier{0}\" members: \"verifier\" of: \"win{0}\" samples: 3"
      "  sees {{ node: \"critic{0}\" }} }} }}"
      "node {{ name: \"answer{0}\" speak {{ role: \"member{0}\" members: \"m/*\" {1} }} }}"
      "node {{ name: \"win{0}\" pick {{ of: \"answer{0}\" by: MAJORITY }} }}",
      round, sees);
}

std::string Replace(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

absl::StatusOr<std::shared_ptr<const orchestrator::CompiledGraph>> Graph() {
  orchestrator::RoleLibrary roles;
  const auto add = [&roles](const std::string& name, const std::string& text) {
    const auto errors = roles.AddText(text, name + ".textproto");
    CONCLAVE_CHECK_MSG(errors.empty(), errors.empty() ? "" : errors.front().c_str());
  };
  for (int round = 0; round < kRounds; ++round) {
    const std::string number = std::to_string(round);
    const std::string critic_said =
        round == 0 ? ""
                   : "{% for s in seen %}{% for u in s.utterances %}\\n\\nA critic said of an earlier answer:\\n"
                     "{{ u.text }}{% endfor %}{% endfor %}";
    add("member" + number,
        Role("member", round, "member", "member.name[2:]",
             "Solve the problem step by step. End with a line '#### <number>'.\\n\\n{{ question }}" + critic_said,
             "answer {}"));
    const std::string shown =
        "{% for s in seen %}{% for u in s.utterances %}\\n\\n{{ u.text }}{% endfor %}{% endfor %}";
    add("critic" + number, Role("critic", round, "critic", "sample",
                                "Find the weakest step of this answer.\\n\\n{{ question }}" + shown, "text {}"));
    add("verifier" + number,
        Role("verifier", round, "verifier", "sample",
             "Is the answer right? End with 'VERDICT: accept' or 'VERDICT: reject'.\\n\\n{{ question }}\\n\\n"
             "{{ candidate.text }}" +
                 shown,
             "verdict { accept: \"VERDICT: accept\" reject: \"VERDICT: reject\" }"));
  }
  // The second round's last pick has one candidate: it is there so that the verifiers' words lead somewhere.
  const std::string last =
      "otherwise { name: \"last\" pick { of: \"win1\" by: BEST_OF_N weight: \"verify1.mean_score\" } }";
  const std::string text = "name: \"council20\" input { name: \"question\" } input { name: \"q\" }" + Round(0) +
                           "node { name: \"second\" branch { condition: \"verify0.accepted >= 1\""
                           "  otherwise_value: \"win0\" " +
                           Replace(Round(1), "node {", "otherwise {") + last +
                           "} } result: \"second\" budget { calls: 1000 output_tokens: 1000000 }";
  return orchestrator::CompileGraphText(text, "council20.textproto", roles).ToStatusOr();
}

// Counts a run's calls and tells when it is over.
class Watcher final : public orchestrator::RunObserver {
 public:
  struct Shared {
    Mutex mutex;
    CondVar changed;
    int running ABSL_GUARDED_BY(mutex) = 0;
    int64_t calls ABSL_GUARDED_BY(mutex) = 0;
    int64_t events ABSL_GUARDED_BY(mutex) = 0;
    std::vector<std::pair<std::string, int>> results ABSL_GUARDED_BY(mutex);
    absl::Status status ABSL_GUARDED_BY(mutex);
  };
  Watcher(Shared* shared, size_t q) : shared_(shared), q_(q) {}

  void OnEvent(const std::shared_ptr<const pb::Event>& event) override {
    ++events_;
    calls_ += event->has_call_finished() ? 1 : 0;
    if (event->has_run_finished()) answer_ = event->run_finished().answer();
  }
  void OnEnd(const absl::Status& status) override {
    MutexLock lock(&shared_->mutex);
    if (!status.ok()) shared_->status = status;
    shared_->calls += calls_;
    shared_->events += events_;
    shared_->results[q_] = {answer_, calls_ > kMembers + kVerifiers + 1 ? 2 : 1};
    --shared_->running;
    shared_->changed.SignalAll();
  }

 private:
  Shared* const shared_;
  const size_t q_;
  int64_t calls_ = 0, events_ = 0;
  std::string answer_;
};

rusage Usage() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage;
}
double CpuSeconds(const rusage& u) {
  return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

void Fill(const std::vector<CouncilQuestion>& questions, const std::vector<std::pair<std::string, int>>& results,
          CouncilResult* out) {
  for (size_t q = 0; q < results.size(); ++q) {
    out->rounds += results[q].second;
    out->right += results[q].first == questions[q].gold ? 1 : 0;
  }
  out->digest = Digest(results);
}

}  // namespace

absl::StatusOr<std::vector<CouncilQuestion>> ReadCouncilQuestions(const std::string& path, size_t count) {
  std::ifstream in(path);
  std::vector<CouncilQuestion> out;
  for (std::string line; out.size() < count && std::getline(in, line);) {
    const nlohmann::json row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("question") || !row.contains("answer")) {
      return InvalidArgument("{}:{}: not an item of GSM8K", path, out.size() + 1);
    }
    const std::string answer = row["answer"];
    const size_t mark = answer.rfind("####");
    std::string gold = answer.substr(mark + 4);
    std::erase_if(gold, [](char c) { return c == ' ' || c == ',' || c == '\n'; });
    out.push_back({row["question"], answer.substr(0, mark), gold});
  }
  if (out.size() < count) return InvalidArgument("{}: {} questions, {} are needed", path, out.size(), count);
  return out;
}

std::vector<CouncilQuestion> MakeCouncilQuestions(size_t count) {
  std::vector<CouncilQuestion> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back({fmt::format("A crate holds {} boxes of {} pears. How many pears are in it?", i + 2, i + 3),
                   fmt::format("There are {} boxes with {} pears each.\n", i + 2, i + 3),
                   std::to_string((i + 2) * (i + 3))});
  }
  return out;
}

CouncilResult ExpectedCouncil(const std::vector<CouncilQuestion>& questions) {
  CouncilResult out;
  std::vector<std::pair<std::string, int>> results;
  for (int q = 0; q < static_cast<int>(questions.size()); ++q) {
    for (int round = 0; round < kRounds; ++round) {
      out.calls += kMembers + 1 + kVerifiers;
      std::vector<std::pair<std::string, int>> votes;  // in order of first appearance
      for (int m = 0; m < kMembers; ++m) {
        const std::string reply = MemberReply(questions, q, round, m);
        const std::string answer = reply.substr(reply.rfind("#### ") + 5);
        auto it = std::find_if(votes.begin(), votes.end(), [&](const auto& v) { return v.first == answer; });
        if (it == votes.end()) it = votes.insert(votes.end(), {answer, 0});
        ++it->second;
      }
      const auto best = std::max_element(votes.begin(), votes.end(),
                                         [](const auto& a, const auto& b) { return a.second < b.second; });
      int accepts = 0;
      for (int v = 0; v < kVerifiers; ++v) accepts += VerifierReply(q, round, v).ends_with("accept") ? 1 : 0;
      const bool accepted = accepts * 2 > kVerifiers;
      if (!accepted && round + 1 < kRounds) continue;
      results.emplace_back(best->first, round + 1);
      break;
    }
  }
  Fill(questions, results, &out);
  return out;
}

absl::StatusOr<CouncilResult> RunCouncil(const std::vector<CouncilQuestion>& questions, int concurrency,
                                         orchestrator::Store* store) {
  ASSIGN_OR_RETURN(const auto graph, Graph());
  std::vector<std::string> members;
  for (int m = 0; m < kMembers; ++m) members.push_back(fmt::format("m/{}", m));
  members.insert(members.end(), {"critic", "verifier"});
  ASSIGN_OR_RETURN(const auto binding, orchestrator::ResolveBinding(*graph, {}, members));
  orchestrator::FakeBackend backend(members, Replies(questions));
  ASSIGN_OR_RETURN(const auto executor, orchestrator::Executor::Start({.store = store, .backend = &backend}));

  Watcher::Shared shared;
  {
    MutexLock lock(&shared.mutex);
    shared.results.resize(questions.size());
  }
  const rusage before = Usage();
  const auto begin = std::chrono::steady_clock::now();
  for (size_t q = 0; q < questions.size(); ++q) {
    {
      MutexLock lock(&shared.mutex);
      while (shared.running >= concurrency) shared.changed.Wait(&shared.mutex);
      ++shared.running;
    }
    orchestrator::NewRun run;
    run.graph = graph;
    for (const std::string& name : members) run.spec.members.push_back({name, 1, {}});
    run.spec.binding = binding;
    run.spec.inputs = {{"question", questions[q].question}, {"q", std::to_string(q)}};
    run.request.set_graph_name("council20");
    executor->StartRun(std::move(run), std::make_shared<Watcher>(&shared, q),
                       [](const absl::StatusOr<orchestrator::StartedRun>& started) {
                         CONCLAVE_CHECK_MSG(started.ok(), started.status().ToString().c_str());
                       });
  }
  CouncilResult out;
  MutexLock lock(&shared.mutex);
  while (shared.running > 0) shared.changed.Wait(&shared.mutex);
  out.wall_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const rusage after = Usage();
  out.cpu_seconds = CpuSeconds(after) - CpuSeconds(before);
  out.peak_rss_bytes = after.ru_maxrss * 1024;
  out.calls = shared.calls;
  out.events = shared.events;
  RETURN_IF_ERROR(shared.status);
  Fill(questions, shared.results, &out);
  return out;
}

}  // namespace conclave::bench
