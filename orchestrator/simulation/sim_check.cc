// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/simulation/sim_check.h"

#include <fmt/format.h>
#include <google/protobuf/util/message_differencer.h>
#include <google/protobuf/util/time_util.h>

#include <limits>
#include <map>
#include <set>

#include "common/status.h"
#include "orchestrator/run/machine_testing.h"
#include "orchestrator/run/run_record.h"
#include "orchestrator/simulation/sim_fleet.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using google::protobuf::util::TimeUtil;

// A cancelled call has two seconds to report, and a moment passes before it is missed.
constexpr int64_t kWallSlackNs = 3 * kSimSecond;

class RunCheck {
 public:
  RunCheck(const std::vector<pb::Event>& events, const SimClient& client,
           const std::function<void(const std::string&)>& violation)
      : events_(events), client_(client), violation_(violation) {}

  void Order() {
    std::set<std::string> started, ended;
    for (size_t i = 0; i < events_.size(); ++i) {
      const pb::Event& event = events_[i];
      if (event.sequence_number() != static_cast<int64_t>(i) + 1) Say("its events have a gap");
      if (event.has_run_started() != (i == 0) && !EndedWithoutMachine()) Say("its start is not its first event");
      if (event.has_run_finished() != (i + 1 == events_.size())) Say("its end is not its last event");
      if (event.has_call_started() && !started.insert(Name(event, event.call_started().key())).second) {
        Say("a call began twice");
      }
      if (event.has_call_finished() && !ended.insert(Name(event, event.call_finished().key())).second) {
        Say("a call ended twice");
      }
      if (event.has_call_lost() && !ended.insert(Name(event, event.call_lost().key())).second) {
        Say("a call ended twice");
      }
    }
    if (started != ended && !EndedWithoutMachine()) Say("calls began that did not end, or the other way round");
  }

  void Books() {
    int64_t calls = 0, output = 0, prompt = 0;
    for (const pb::Event& event : events_) {
      if (!event.has_call_finished() && !event.has_call_lost()) continue;
      const auto& usage = event.has_call_finished() ? event.call_finished().usage() : event.call_lost().usage();
      ++calls;
      output += usage.output_token_count();
      prompt += usage.prompt_token_count();
    }
    const pb::Ledger& ledger = Finished().ledger();
    if (ledger.calls() != calls || ledger.output_tokens() != output || ledger.prompt_tokens() != prompt) {
      Say("its ledger is not the sum of its calls");
    }
    for (const NamedBudget& named : client_.run().spec.budgets) {
      const pb::Budget& budget = named.budget;
      if (budget.has_output_tokens() && output > budget.output_tokens()) {
        Say(fmt::format("{} output tokens of a budget of {}", output, budget.output_tokens()));
      }
      if (budget.has_calls() && calls > budget.calls()) Say(fmt::format("{} calls of {}", calls, budget.calls()));
    }
  }

  // Budgets of called graphs, for each time that they ran.
  void InnerBooks() {
    for (const CompiledNode& node : client_.run().graph->nodes()) {
      if (node.kind != NodeKind::kCall) continue;
      const pb::Budget& budget = node.called->budget();
      std::map<std::string, std::pair<int64_t, int64_t>> spent;  // calls and output tokens, by path of the call
      for (const pb::Event& begun : events_) {
        if (begun.has_node_started() && begun.node_started().kind() == "call") spent[begun.node_path()] = {};
      }
      for (const pb::Event& event : events_) {
        if (!event.has_call_finished() && !event.has_call_lost()) continue;
        const auto& usage = event.has_call_finished() ? event.call_finished().usage() : event.call_lost().usage();
        for (auto& [path, sum] : spent) {
          if (!event.node_path().starts_with(path + ".")) continue;
          ++sum.first;
          sum.second += usage.output_token_count();
        }
      }
      for (const auto& [path, sum] : spent) {
        if (sum.first > budget.calls() || sum.second > budget.output_tokens()) {
          Say(fmt::format("{} calls and {} tokens in {}", sum.first, sum.second, path));
        }
      }
    }
  }

  void WallTime() {
    for (const NamedBudget& named : client_.run().spec.budgets) {
      if (!named.budget.has_wall_time()) continue;
      const int64_t took = TimeUtil::TimestampToNanoseconds(events_.back().time()) -
                           TimeUtil::TimestampToNanoseconds(events_.front().time());
      const int64_t limit = TimeUtil::DurationToNanoseconds(named.budget.wall_time());
      if (took > limit + kWallSlackNs) {
        Say(fmt::format("it took {} ms of {} ms", took / kSimMs, limit / kSimMs));
      }
    }
  }

  void Texts() {
    const int32_t most = client_.run().spec.sampling.max_output_tokens();
    for (const pb::Event& event : events_) {
      if (!event.has_call_finished()) continue;
      const pb::CallFinished& call = event.call_finished();
      std::string undisturbed;
      for (const std::string& token : SimTokens({call.prompt().begin(), call.prompt().end()}, call.seed(), most)) {
        undisturbed += token;
      }
      if (call.text() != undisturbed)
        Say(fmt::format("a text is \"{}\", undisturbed \"{}\"", call.text(), undisturbed));
    }
  }

  // Whether nothing that happened may change the verdict.
  bool Undisturbed() const {
    if (client_.cancel_asked() || Finished().hole_count() > 0) return false;
    for (const pb::Event& event : events_) {
      // The loser of a hedge is a loss that changes nothing; one that left a hole shows in the count of holes.
      if (event.has_budget_exhausted()) return false;
      // Who answered first then decides who counts; that is recorded, and followed by a replay.
      if (event.has_node_finished() && event.node_finished().note().starts_with("quorum")) return false;
    }
    return true;
  }

  void Verdict() {
    RunSpec spec = client_.run().spec;
    spec.run_id = client_.run_id();
    spec.budgets.clear();  // none of them said anything
    const int32_t most = spec.sampling.max_output_tokens();
    const RunLog reference = Drive(client_.run().graph, std::move(spec), [most](const CallSpec& call) {
      Reply reply;
      const std::vector<std::string> tokens = SimTokens(call.prompt->messages, call.seed, most);
      for (const std::string& token : tokens) reply.text += token;
      reply.output_tokens = static_cast<int64_t>(tokens.size());
      return reply;
    });
    if (reference.finished().answer() != Finished().answer()) {
      Say(fmt::format("its answer is \"{}\", undisturbed \"{}\"", Finished().answer(), reference.finished().answer()));
    }
  }

  void Cancellation() {
    const pb::RunState state = Finished().state();
    if (state == pb::RUN_STATE_CANCELLED && !client_.cancel_asked()) Say("it was cancelled by nobody");
    if (state == pb::RUN_STATE_FAILED && Finished().code() == static_cast<int32_t>(absl::StatusCode::kDataLoss)) {
      Say("it was given up: " + Finished().message());
    }
    if (!client_.cancel_acknowledged()) return;
    const pb::RunState said = client_.acknowledged_state();
    const bool was_over = said != pb::RUN_STATE_PENDING && said != pb::RUN_STATE_RUNNING;
    if (was_over && state != said) {
      Say(fmt::format("it ended as {}, and was said to have ended as {}", pb::RunState_Name(state),
                      pb::RunState_Name(said)));
    }
    for (const pb::Event& event : events_) {  // one whose end was decided before may still succeed
      const bool later = TimeUtil::TimestampToNanoseconds(event.time()) > client_.acknowledged_ns();
      if (later && event.has_call_started()) Say("a call begins after its cancellation was acknowledged");
    }
  }

  // A cancelled run ends within two seconds.
  void CancelledSoon() {
    if (!client_.cancel_acknowledged() || Finished().state() != pb::RUN_STATE_CANCELLED) return;
    const int64_t took = TimeUtil::TimestampToNanoseconds(events_.back().time()) - client_.acknowledged_ns();
    if (took > kWallSlackNs) Say(fmt::format("it ended {} ms after it was cancelled", took / kSimMs));
  }

  // A budget runs out where one more call of the largest kind would pass it, and not before.
  void Exhaustion() {
    const double most = client_.run().spec.sampling.max_output_tokens();
    for (size_t i = 0; i < events_.size(); ++i) {
      if (!events_[i].has_budget_exhausted()) continue;
      const pb::BudgetExhausted& exhausted = events_[i].budget_exhausted();
      const auto [calls, output] = SpentBefore(i, events_[i].node_path());
      const double room = exhausted.limit() - static_cast<double>(exhausted.unit() == "calls" ? calls : output);
      if ((exhausted.unit() == "calls" && room >= 1) || (exhausted.unit() == "output_tokens" && room >= most)) {
        Say(fmt::format("{} of {} {} are left when they run out", room, exhausted.limit(), exhausted.unit()));
      }
      if (exhausted.unit() != "wall_time" || !events_[i].node_path().empty()) continue;
      const int64_t took = TimeUtil::TimestampToNanoseconds(events_[i].time()) -
                           TimeUtil::TimestampToNanoseconds(events_.front().time());
      if (static_cast<double>(took) < exhausted.limit() * 1e9 - 1) Say("its wall time runs out before its time");
    }
  }

  void Seen() {
    const std::vector<pb::Event>& seen = client_.seen();
    if (seen.size() != events_.size()) {
      return Say(fmt::format("{} events are stored, {} were seen", events_.size(), seen.size()));
    }
    for (size_t i = 0; i < seen.size(); ++i) {
      if (!google::protobuf::util::MessageDifferencer::Equals(seen[i], events_[i])) {
        return Say(fmt::format("event {} was seen otherwise than it is stored", i + 1));
      }
    }
  }

  const pb::RunFinished& Finished() const { return events_.back().run_finished(); }
  // Cancelled where its members were not there.
  bool EndedWithoutMachine() const { return Finished().message() == "cancelled"; }

 private:
  // Calls and output tokens of ended calls in a node that was begun last ("": of all), before an event.
  std::pair<int64_t, int64_t> SpentBefore(size_t end, const std::string& path) const {
    std::pair<int64_t, int64_t> spent;
    for (size_t i = 0; i < end; ++i) {
      const pb::Event& event = events_[i];
      if (event.has_node_started() && event.node_path() == path) spent = {};
      if (!event.has_call_finished() && !event.has_call_lost()) continue;
      if (!path.empty() && !event.node_path().starts_with(path + ".")) continue;
      const auto& usage = event.has_call_finished() ? event.call_finished().usage() : event.call_lost().usage();
      ++spent.first;
      spent.second += usage.output_token_count();
    }
    return spent;
  }
  static std::string Name(const pb::Event& event, const pb::CallKey& key) {
    return event.node_path() + "|" + key.SerializeAsString();
  }
  void Say(const std::string& what) const { violation_(client_.run_id() + ": " + what); }

  const std::vector<pb::Event>& events_;
  const SimClient& client_;
  const std::function<void(const std::string&)>& violation_;
};

void Count(const std::vector<pb::Event>& events, SimReport* report) {
  report->events += static_cast<int64_t>(events.size());
  for (const pb::Event& event : events) {
    report->calls_lost += event.has_call_lost() ? 1 : 0;
    report->retries += event.has_call_lost() && event.call_lost().will_retry() ? 1 : 0;
    report->repairs += event.has_call_finished() && event.call_finished().will_repair() ? 1 : 0;
    report->hedges += event.has_call_started() && event.call_started().hedge() ? 1 : 0;
    report->continued += event.has_call_started() && event.call_started().continued_token_count() > 0 ? 1 : 0;
    report->exhausted += event.has_budget_exhausted() ? 1 : 0;
  }
  report->cancelled += events.back().run_finished().state() == pb::RUN_STATE_CANCELLED ? 1 : 0;
}

}  // namespace

void CheckRun(const Store& disk, const SimClient& client, const SimCircumstances& circumstances,
              const std::function<void(const std::string&)>& violation, SimReport* report) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  const auto stored = disk.GetRun(client.run_id());
  if (!stored.ok() || !stored->finished) return violation(client.run_id() + ": it is not in the store, or never ended");
  const auto events = ReadEventPage(disk, client.run_id(), 0, kAll, kAll);
  if (!events.ok() || events->empty()) return violation(client.run_id() + ": its events cannot be read");
  RunCheck check(*events, client, violation);
  check.Order();
  if (!events->back().has_run_finished()) return;
  check.Books();
  check.InnerBooks();
  check.Texts();
  check.Seen();
  check.Cancellation();
  check.Exhaustion();
  if (circumstances.served_throughout) {
    check.WallTime();
    check.CancelledSoon();
  }
  if (check.Undisturbed()) {
    check.Verdict();
    ++report->undisturbed;
  }
  pb::Run summary;
  if (!summary.ParseFromString(stored->summary) || summary.state() != check.Finished().state() ||
      summary.last_sequence_number() != static_cast<int64_t>(events->size())) {
    violation(client.run_id() + ": its listing is not how it ended");
  }
  Count(*events, report);
}

}  // namespace conclave::orchestrator
