// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "common/hash.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/experiment/spending.h"
#include "orchestrator/experiment/talk_of.h"

namespace conclave::experiment {
namespace {

using deliberation::v1::CallFinished;
using deliberation::v1::Event;
using deliberation::v1::RunFinished;
using deliberation::v1::RunRequest;

// How often stop and time are looked at while nothing happens.
constexpr int64_t kLookNs = 100'000'000;

// Runs in flight, what came of them, and why no more should begin.
class Flight {
 public:
  Flight(const Plan& plan, const std::atomic<bool>& stop, const Clock& clock)
      : plan_(plan), stop_(stop), clock_(clock), spending_(plan.budget, clock.NowNs()) {
    progress_.arms.resize(plan.arms.size());
    progress_.total = plan.arms.size() * plan.items.size() * static_cast<size_t>(plan.declaration.replicates);
  }

  // Waits for a free place; false when no further run is to begin.
  bool Enter() {
    MutexLock lock(&mutex_);
    while (true) {
      LookLocked();
      if (!Over() && used_up_.empty()) used_up_ = spending_.UsedUp();
      if (Over()) return false;
      if (running_ < plan_.concurrency) break;
      changed_.WaitWithTimeout(&mutex_, kLookNs);
    }
    ++running_;
    return true;
  }

  void Leave(const absl::Status& status, size_t arm, const Outcome* outcome,
             const std::function<void(const Progress&)>& report) {
    MutexLock lock(&mutex_);
    --running_;
    changed_.SignalAll();
    if (!status.ok() && error_.ok() && !stopping_) error_ = status;
    if (outcome == nullptr) return;
    spending_.Add(*outcome);
    ++progress_.done;
    ++progress_.arms[arm].done;
    progress_.arms[arm].correct += outcome->kind == OutcomeKind::kCorrect ? 1 : 0;
    progress_.arms[arm].failed += outcome->kind == OutcomeKind::kFailed ? 1 : 0;
    progress_.output_tokens += outcome->output_tokens;
    if (report) report(progress_);
  }

  // As RunAll.
  absl::StatusOr<std::string> WaitForAll(Deliberator& deliberator) {
    bool stopped = false;
    while (true) {
      {
        MutexLock lock(&mutex_);
        if (running_ > 0) LookLocked();
        if (stopping_ == stopped) {
          if (running_ == 0) break;
          changed_.WaitWithTimeout(&mutex_, kLookNs);
          continue;
        }
      }
      stopped = true;
      deliberator.Stop();  // without the lock: what it ends leaves
    }
    MutexLock lock(&mutex_);
    if (!error_.ok()) return error_;
    return used_up_;
  }

 private:
  bool Over() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !error_.ok() || !used_up_.empty(); }
  void LookLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stopping_ || !error_.ok()) return;
    if (stop_) {
      error_ = Cancelled("stopped");
      stopping_ = true;
    } else if (const std::string time = spending_.TimeIsUp(clock_.NowNs()); !time.empty()) {
      used_up_ = time;
      stopping_ = true;
    }
  }

  const Plan& plan_;
  const std::atomic<bool>& stop_;
  const Clock& clock_;
  Mutex mutex_;
  CondVar changed_;
  Spending spending_ ABSL_GUARDED_BY(mutex_);
  int32_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
  std::string used_up_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;  // what is in flight, too; its errors are ours
  Progress progress_ ABSL_GUARDED_BY(mutex_);
};

grade::Reference ReferenceFor(const benchmark::Item& item) { return {item.answer, item.choices}; }

// The question as members see it: options, if any, as lines "A. text".
std::string QuestionText(const benchmark::Item& item) {
  std::string text = item.question;
  for (size_t i = 0; i < item.choices.size(); ++i) {
    text += fmt::format("{}{}. {}", i == 0 ? "\n\n" : "\n", static_cast<char>('A' + i), item.choices[i]);
  }
  return text;
}

void FillCost(const RunRecord& record, Outcome* out) {
  for (const Event& event : record.events) {
    // A call that a settled vote no longer needed was cancelled, not lost.
    const bool lost = event.has_call_lost() && !event.call_lost().will_retry() &&
                      event.call_lost().code() != static_cast<int>(absl::StatusCode::kCancelled);
    if (lost) ++out->lost_calls;
    if (!event.has_run_finished()) continue;
    const auto& ledger = event.run_finished().ledger();
    out->calls = static_cast<double>(ledger.calls());
    out->prompt_tokens = static_cast<double>(ledger.prompt_tokens());
    out->cached_tokens = static_cast<double>(ledger.cached_tokens());
    out->output_tokens = static_cast<double>(ledger.output_tokens());
    out->flops = ledger.flops();
    out->weight_bytes = ledger.weight_bytes();
    out->kv_bytes = ledger.kv_bytes();
    out->estimated = ledger.estimated();
  }
  out->seconds = record.seconds;
}

// What all calls of the run cost by the list; 0 where a member that was asked has no price.
double UsdOf(const RunRecord& record, const std::map<std::string, deliberation::v1::Price>& prices) {
  constexpr double kPerToken = 1e-6;  // prices are per million
  double usd = 0;
  for (const Event& event : record.events) {
    if (!event.has_call_finished()) continue;
    const auto price = prices.find(event.call_finished().key().member());
    if (price == prices.end()) return 0;
    const auto& usage = event.call_finished().usage();
    const double cached = static_cast<double>(usage.cached_prompt_token_count());
    const double fresh = static_cast<double>(usage.prompt_token_count()) - cached;
    const auto& p = price->second;
    usd += kPerToken * (fresh * p.input() + cached * (p.has_cached_input() ? p.cached_input() : p.input()) +
                        static_cast<double>(usage.output_token_count()) * p.output());
  }
  return usd;
}

// The verdict on the run's result.
void GradeResult(const Plan& plan, const benchmark::Item& item, const RunRecord& record, Outcome* out) {
  const RunFinished* finished = nullptr;
  bool cut = false;
  for (const Event& event : record.events) {
    if (event.has_run_finished()) finished = &event.run_finished();
    cut |= event.has_call_finished() && event.call_finished().finish_reason() == inference::v1::FINISH_REASON_LENGTH;
  }
  if (finished == nullptr || finished->state() != deliberation::v1::RUN_STATE_SUCCEEDED) return;  // stays kFailed
  const auto finish = cut ? grade::Finish::kCutAtLength : grade::Finish::kComplete;
  const grade::Grade grade = finished->text().empty() && finished->has_answer()
                                 ? plan.grader->GradeAnswer(finished->answer(), ReferenceFor(item))
                                 : plan.grader->GradeText(finished->text(), ReferenceFor(item), finish);
  out->kind = grade.outcome;
  out->strict = grade.strict;
  out->rule = grade.rule;
  out->answer = grade.answer;
  out->gold = grade.gold.empty() ? item.answer : grade.gold;
}

// The votes of one node: its members' answers, in (member, sample) order.
struct NodeVotes {
  std::string node;
  int64_t calls = 0;
  double output_tokens = 0;
  bool before_judging = true;  // speaks on the question itself, not on somebody's words
  std::vector<Vote> votes;
};

// The kind of the most frequent class; of classes equally frequent, the one whose first vote is first.
OutcomeKind MostFrequent(const std::vector<Vote>& votes) {
  const Vote* best = nullptr;
  std::ptrdiff_t most = 0;
  for (const Vote& vote : votes) {
    if (vote.answer_class.empty()) continue;
    const auto same = [&](const Vote& other) { return other.answer_class == vote.answer_class; };
    const std::ptrdiff_t count = std::count_if(votes.begin(), votes.end(), same);
    if (count > most) most = count, best = &vote;
  }
  return best == nullptr ? OutcomeKind::kNoAnswer : best->kind;
}

// Grades what each node's calls said. Nodes whose calls never bring an answer (plans, critiques, verdicts) are no
// stage.
void GradeCalls(const Plan& plan, const benchmark::Item& item, const RunRecord& record, Graded* graded) {
  std::vector<NodeVotes> nodes;
  std::vector<std::string> answering;
  for (const Event& event : record.events) {
    if (event.has_call_finished() && event.call_finished().has_answer()) answering.push_back(event.node_path());
  }
  for (const Event& event : record.events) {
    if (!event.has_call_finished()) continue;
    if (std::find(answering.begin(), answering.end(), event.node_path()) == answering.end()) continue;
    auto at = std::find_if(nodes.begin(), nodes.end(), [&](const NodeVotes& n) { return n.node == event.node_path(); });
    if (at == nodes.end()) at = nodes.insert(nodes.end(), NodeVotes{event.node_path(), 0, 0, true, {}});
    const CallFinished& call = event.call_finished();
    ++at->calls;
    at->output_tokens += static_cast<double>(call.usage().output_token_count());
    at->before_judging &= call.key().subject() < 0;
    const grade::Grade grade = plan.grader->GradeText(call.text(), ReferenceFor(item));
    at->votes.push_back({call.key().member(), call.key().sample(), grade.outcome, grade.answer,
                         static_cast<double>(call.usage().flop_count()),
                         static_cast<double>(call.latency().seconds()) + 1e-9 * call.latency().nanos()});
  }
  for (NodeVotes& node : nodes) {
    std::stable_sort(node.votes.begin(), node.votes.end(), [](const Vote& a, const Vote& b) {
      return std::tie(a.member, a.sample) < std::tie(b.member, b.sample);
    });
    graded->stages.push_back({node.node, node.calls, MostFrequent(node.votes), node.output_tokens});
  }
  const auto first = std::find_if(nodes.begin(), nodes.end(), [](const NodeVotes& n) { return n.before_judging; });
  if (first != nodes.end()) graded->votes = std::move(first->votes);
}

}  // namespace

std::string RequestId(const Plan& plan, const RunKey& key) {
  const std::string name =
      fmt::format("{}\x1f{}\x1f{}", plan.arms[key.arm].name, plan.items[key.item].id, key.replicate);
  return Sha256Hex(name).substr(0, 40);
}

RunRequest RequestFor(const Plan& plan, const RunKey& key) {
  const benchmark::Item& item = plan.items[key.item];
  RunRequest request = plan.arms[key.arm].request;
  request.set_request_id(RequestId(plan, key));
  request.set_item_id(item.id);
  (*request.mutable_inputs())["question"] = QuestionText(item);
  request.set_seed(
      Mix64(plan.declaration.seed ^ Mix64(Fnv1a64(item.id) ^ Mix64(static_cast<uint64_t>(key.replicate)))));
  return request;
}

Outcome OutcomeOf(const Plan& plan, const RunKey& key, const RunRecord& record) {
  const benchmark::Item& item = plan.items[key.item];
  Outcome out;
  out.arm = plan.arms[key.arm].name;
  out.id = item.id;
  out.replicate = key.replicate;
  out.kind = OutcomeKind::kFailed;
  out.gold = item.answer;
  out.cluster = item.cluster;
  out.stratum = item.stratum;
  FillCost(record, &out);
  out.usd = UsdOf(record, plan.prices);
  GradeResult(plan, item, record, &out);
  if (const auto it = plan.verdicts.find({out.arm, out.id, out.replicate}); it != plan.verdicts.end()) {
    out.kind = it->second;
    out.strict = it->second;
    out.rule = "annotated";
  }
  return out;
}

Graded GradeRun(const Plan& plan, const RunKey& key, const RunRecord& record) {
  const benchmark::Item& item = plan.items[key.item];
  Graded graded;
  graded.outcome = OutcomeOf(plan, key, record);
  GradeCalls(plan, item, record, &graded);
  graded.talk = TalkOf(record, item, *plan.grader);
  return graded;
}

absl::StatusOr<std::string> RunAll(const Plan& plan, Deliberator& deliberator, const std::atomic<bool>& stop,
                                   const Clock& clock, const std::function<void(const Progress&)>& on_progress) {
  Flight flight(plan, stop, clock);
  for (int32_t replicate = 0; replicate < plan.declaration.replicates; ++replicate) {
    for (size_t item = 0; item < plan.items.size(); ++item) {
      for (size_t arm = 0; arm < plan.arms.size(); ++arm) {
        if (!flight.Enter()) return flight.WaitForAll(deliberator);
        const RunKey key{arm, item, replicate};
        deliberator.Start(RequestFor(plan, key), [&, key](absl::Status status) {
          Outcome outcome;
          if (status.ok()) {
            const auto record = deliberator.Read(RequestId(plan, key));
            status = record.status();
            if (status.ok()) outcome = OutcomeOf(plan, key, *record);
          }
          flight.Leave(status, key.arm, status.ok() ? &outcome : nullptr, on_progress);
        });
      }
    }
  }
  return flight.WaitForAll(deliberator);
}

}  // namespace conclave::experiment
