// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/simulation/simulation.h"

#include <fmt/format.h>

#include <limits>
#include <memory>
#include <utility>

#include "common/check.h"
#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/backend/worker_dispatcher.h"
#include "orchestrator/backend/worker_leases.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/run/machine_testing.h"
#include "orchestrator/simulation/sim_check.h"
#include "orchestrator/simulation/sim_client.h"
#include "orchestrator/simulation/sim_fleet.h"
#include "orchestrator/simulation/sim_graphs.h"
#include "orchestrator/simulation/sim_store.h"
#include "orchestrator/simulation/sim_witness.h"
#include "orchestrator/simulation/sim_world.h"
#include "orchestrator/store/memory_store.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

constexpr int64_t kHousekeepingNs = 50 * kSimMs;
constexpr int64_t kFaultsUntilNs = 30 * kSimSecond;
constexpr int64_t kLeaseSlackNs = kSimSecond;
constexpr int64_t kHorizonNs = 1'200 * kSimSecond;  // a run that has not ended by then is lost
constexpr int64_t kLackingNs = 20 * kSimSecond;     // a member is missing for so long at most
constexpr int64_t kSettleNs = 60 * kSimSecond;      // after the last run: work that nobody waits for ends
// A sequence whose end its worker was not told of. A worker is told with its next word; it is asked for one every 5 s,
// and what is asked in vain takes 2 s.
constexpr int64_t kVainNs = 8 * kSimSecond;
// Things that may happen in one moment, and in a world.
constexpr int64_t kStepsPerMomentMax = 20'000;
constexpr int64_t kStepsMax = 20'000'000;

// What one seed lets go wrong; each kind in about half of the worlds, so that some are quiet and some are not.
struct Plan {
  int64_t kills = 0, stops = 0, die_one_in = 0, full_windows = 0, fail_one_in = 0;
  bool drops = false, cancels = false, budgets = false, lacks = false;
  int64_t worker_faults = 0;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : world_(seed),
        disk_(NewMemoryStore()),
        fleet_(&world_, kSimWorkers),
        witness_(disk_.get(), [this](const std::string& what) { Violation(what); }) {
    plan_.kills = Maybe(3);
    plan_.stops = Maybe(2);
    plan_.die_one_in = world_.OneIn(3) ? world_.Between(5, 60) : 0;
    plan_.fail_one_in = world_.OneIn(6) ? world_.Between(20, 100) : 0;
    plan_.full_windows = Maybe(2);
    plan_.worker_faults = Maybe(12);
    plan_.drops = world_.OneIn(2);
    plan_.cancels = world_.OneIn(3);
    plan_.budgets = world_.OneIn(2);
    plan_.lacks = world_.OneIn(4);
  }

  SimReport Run() {
    const int64_t clients = world_.Between(1, 4);
    for (int32_t i = 0; i < clients; ++i) AddClient(i);
    ArrangeFaults();
    Boot();
    while (report_.violations.empty() && !AllDone()) {
      if (world_.now_ns() > kHorizonNs) SayWhoWaits();
      Go();
    }
    const int64_t settled_ns = world_.now_ns() + kSettleNs;
    while (report_.violations.empty() && world_.now_ns() < settled_ns) Go();
    report_.virtual_ns = world_.now_ns();
    if (report_.violations.empty()) Check();
    if (executor_ != nullptr) Die();
    return std::move(report_);
  }

 private:
  int64_t Maybe(int64_t most) { return world_.OneIn(2) ? world_.Between(1, most) : 0; }
  void Violation(const std::string& what) { report_.violations.push_back(what); }

  bool AllDone() const {
    for (const auto& client : clients_) {
      if (!client->done()) return false;
    }
    return true;
  }

  void SayWhoWaits() {
    for (const auto& client : clients_) {
      if (client->done()) continue;
      const std::string last = client->seen().empty() ? "nothing" : client->seen().back().ShortDebugString();
      Violation(fmt::format("run \"{}\" did not end within {} min; in life {}, {} were seen of it, the last {}",
                            client->run_id(), kHorizonNs / (60 * kSimSecond), life_, client->seen().size(), last));
    }
  }

  // Whatever happens takes time at last.
  void CountStep() {
    if (world_.now_ns() != moment_ns_) steps_ = 0;
    moment_ns_ = world_.now_ns();
    if (++steps_ > kStepsPerMomentMax) Violation(fmt::format("at {} ms it does not come to rest", moment_ns_ / kSimMs));
    if (++steps_of_all_ > kStepsMax) Violation("it does not come to an end");
  }

  // ---- The world before it begins

  void AddClient(int32_t number) {
    NewRun run;
    run.graph = SimGraphs()[static_cast<size_t>(world_.Between(0, static_cast<int64_t>(SimGraphs().size()) - 1))];
    run.spec = SpecFor(*run.graph, {"m1", "m2", "m3", "v1"}, world_.Draw());
    run.spec.run_id.clear();
    run.spec.sampling.set_max_output_tokens(9);
    run.request.set_request_id(fmt::format("request-{}", number));
    run.request.set_graph_name(run.graph->name());
    if (plan_.budgets) run.spec.budgets.push_back({"request", SomeBudget()});
    clients_.push_back(
        std::make_unique<SimClient>(&world_,
                                    SimClient::Server{[this] { return stopping_ ? nullptr : executor_.get(); },
                                                      [this] { return life_; }, &witness_},
                                    number, std::move(run)));
    clients_.back()->Begin(world_.Between(0, 3 * kSimSecond));
    if (plan_.drops) {
      for (int64_t i = world_.Between(1, 4); i > 0; --i) clients_.back()->DropAfter(world_.Between(0, 8 * kSimSecond));
    }
    if (plan_.cancels && world_.OneIn(2)) clients_.back()->CancelAfter(world_.Between(0, 4 * kSimSecond));
  }

  pb::Budget SomeBudget() {
    pb::Budget budget;
    const int64_t kind = world_.Between(1, 4);
    if (kind == 1) budget.set_output_tokens(world_.Between(0, 120));
    if (kind == 2) budget.set_calls(world_.Between(0, 12));
    if (kind == 3) {
      const int64_t ms = world_.Between(10, 4'000);
      budget.mutable_wall_time()->set_seconds(ms / 1000);
      budget.mutable_wall_time()->set_nanos(static_cast<int32_t>(ms % 1000 * kSimMs));
    }
    if (world_.OneIn(2)) budget.set_on_exhausted(pb::Budget::RETURN_BEST);
    return budget;
  }

  int64_t SomeTime() { return world_.Between(0, world_.OneIn(2) ? 4 * kSimSecond : kFaultsUntilNs); }

  void ArrangeFaults() {
    for (int64_t i = 0; i < plan_.kills; ++i) world_.After(SomeTime(), [this] { dying_ = true; });
    for (int64_t i = 0; i < plan_.stops; ++i) {
      world_.After(SomeTime(), [this] { AskToStop(); });
    }
    for (int64_t i = 0; i < plan_.full_windows; ++i) {
      world_.After(SomeTime(), [this] {
        store_faults_.full_until_ns = world_.now_ns() + world_.Between(1, 5'000) * kSimMs;
        store_faults_.tight = world_.OneIn(2);
        if (store_ != nullptr) store_->set_faults(store_faults_);
      });
    }
    for (int64_t i = 0; i < plan_.worker_faults; ++i) {
      world_.After(SomeTime(), [this] { WorkerFault(); });
    }
    store_faults_.die_one_in = plan_.die_one_in;
    store_faults_.fail_one_in = plan_.fail_one_in;
    store_faults_.delay_max_ns = world_.Between(0, 20) * kSimMs;
    world_.After(kFaultsUntilNs, [this] {
      store_faults_ = {};
      if (store_ != nullptr) store_->set_faults(store_faults_);
    });
  }

  void WorkerFault() {
    ++report_.worker_faults;
    const auto worker = static_cast<int32_t>(world_.Between(0, kSimWorkers - 1));
    const int64_t some = world_.Between(1, world_.OneIn(2) ? 2'000 : 40'000) * kSimMs;
    const int64_t times = world_.Between(20, world_.OneIn(2) ? 60 : 1'000);
    switch (world_.Between(1, 6)) {
      case 1:
        return fleet_.Kill(worker, some);
      case 2:
        return fleet_.Freeze(worker, some);
      case 3:
        return fleet_.CutOff(worker, some);
      case 4:
        return fleet_.SlowDown(worker, times, some);
      case 5:  // longer than a lease, and what it works on is not done by then
        fleet_.SlowDown(worker, times, 3 * some);
        return world_.OneIn(2) ? fleet_.Freeze(worker, kLeaseNs + some) : fleet_.CutOff(worker, kLeaseNs + some);
      default:
        return fleet_.Overload(worker, some);
    }
  }

  // ---- The orchestrator's lives

  void AskToStop() {
    if (executor_ == nullptr || stopping_) return;
    stopping_ = true;
    executor_->Stop();
  }

  // Of this life: one may begin without a member that runs need, and is stopped again.
  std::vector<WorkerMember> MembersNow() {
    std::vector<WorkerMember> members = SimMembers();
    if (!plan_.lacks || life_ == 1 || world_.now_ns() > kFaultsUntilNs || !world_.OneIn(2)) return members;
    members.pop_back();
    ++report_.lacking;
    world_.After(world_.Between(1, kLackingNs), [this, life = life_] {
      if (life == life_) AskToStop();
    });
    return members;
  }

  void Boot() {
    ++life_;
    stopping_ = dying_ = false;
    store_ = std::make_unique<SimStore>(&world_, disk_.get(), &witness_, [this] { dying_ = true; });
    store_->set_faults(store_faults_);
    std::vector<std::string> addresses;
    addresses.reserve(kSimWorkers);
    for (int32_t i = 0; i < kSimWorkers; ++i) addresses.push_back(SimAddress(i));
    WorkerBackendOptions options;
    options.clock = &world_.clock();
    options.calls_per_worker_max = 3;
    options.breaker = {.failures = 2, .window = 6, .window_failures = 3, .pause_ns = 4 * kSimSecond};
    options.request_prefix = fmt::format("{}-", life_);
    backend_ = std::make_unique<WorkerDispatcher>(MembersNow(), std::move(addresses), options, fleet_.Connect());
    switchboard_ = std::make_unique<SimSwitchboard>(backend_.get(), &witness_, &fleet_);
    store_->set_starting(true);
    auto executor = Executor::Start({.store = store_.get(),
                                     .backend = switchboard_.get(),
                                     .clock = &world_.clock(),
                                     .on_fatal = [this](const absl::Status&) { dying_ = true; },
                                     .stepped = true});
    CONCLAVE_CHECK_MSG(executor.ok(), executor.status().ToString().c_str());
    executor_ = *std::move(executor);
    store_->set_starting(false);
    Housekeep(life_);
  }

  void Housekeep(int64_t life) {
    if (life != life_ || backend_ == nullptr) return;
    backend_->Housekeep();
    // A word that was on its way when the silence began, and the moment until somebody looks.
    if (const int32_t vain = fleet_.waited_for_in_vain(kLeaseNs + kLeaseSlackNs); vain > 0) {
      Violation(fmt::format("{} calls wait for workers whose lease is over", vain));
    }
    if (const int32_t vain = fleet_.worked_on_in_vain(kVainNs); vain > 0) {
      Violation(fmt::format("workers go on with {} sequences that were given up, and are not told", vain));
    }
    world_.After(kHousekeepingNs, [this, life] { Housekeep(life); });
  }

  // The process is gone from one moment to the next.
  void Die() {
    backend_->Stop();
    fleet_.Disconnect();
    backend_.reset();
    executor_.reset();
    switchboard_.reset();
    store_.reset();
  }

  void Restart() {
    const bool stopped = stopping_ && !dying_;
    ++(stopped ? report_.stops : report_.kills);
    for (const auto& client : clients_) {
      if (stopped) client->OnStopped(life_);
    }
    Die();
    dying_ = false;
    world_.After(world_.Between(10, 3'000) * kSimMs, [this] { Boot(); });
  }

  // The next thing that happens.
  void Go() {
    CountStep();
    if (executor_ != nullptr) {
      while (!dying_ && report_.violations.empty() && executor_->Step()) CountStep();
      if (dying_ || (stopping_ && executor_->stopped())) return Restart();
      const int64_t wake_ns = executor_->NextWakeNs();
      const bool timer = wake_ns > 0 && (world_.next_ns() < 0 || world_.now_ns() + wake_ns <= world_.next_ns());
      if (timer) return world_.MoveTo(world_.now_ns() + wake_ns);
    }
    dying_ = false;  // whoever dies is dead already
    world_.HappenNext();
  }

  // ---- The end

  void Check() {
    const SimCircumstances circumstances{.served_throughout = report_.kills + report_.stops + plan_.full_windows == 0};
    for (const auto& client : clients_) {
      CheckRun(
          *disk_, *client, circumstances, [this](const std::string& what) { Violation(what); }, &report_);
      report_.reconnects += client->connections() - 1;
    }
    report_.runs = static_cast<int64_t>(clients_.size());
    const auto all = disk_->ListRuns(0, kListPageMax);
    if (!all.ok() || all->size() != clients_.size()) Violation("a request began more than one run");
    if (fleet_.running() > 0) Violation(fmt::format("{} sequences run for nobody", fleet_.running()));
    Sha256 hash;
    constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
    for (const StoredRun& run : *all) {
      hash.Update(run.run_id + run.summary);
      const auto events = disk_->ReadEvents(run.run_id, 0, kAll, kAll);
      for (const std::string& event : *events) hash.Update(event);
    }
    for (const auto& client : clients_) hash.Update(fmt::format("|{}", client->connections()));
    hash.Update(fmt::format("|{}|{}|{}", fleet_.tokens_made(), report_.kills, world_.now_ns()));
    report_.log_hash = hash.HexDigest();
  }

  SimWorld world_;
  Plan plan_;
  SimReport report_;
  const std::unique_ptr<Store> disk_;
  SimFleet fleet_;
  SimWitness witness_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  SimStore::Faults store_faults_;
  int64_t life_ = 0;
  int64_t moment_ns_ = 0, steps_ = 0, steps_of_all_ = 0;
  bool dying_ = false, stopping_ = false;
  std::unique_ptr<SimStore> store_;
  std::unique_ptr<WorkerDispatcher> backend_;
  std::unique_ptr<SimSwitchboard> switchboard_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace

SimReport& SimReport::operator+=(const SimReport& other) {
  runs += other.runs;
  events += other.events;
  kills += other.kills;
  stops += other.stops;
  reconnects += other.reconnects;
  calls_lost += other.calls_lost;
  retries += other.retries;
  cancelled += other.cancelled;
  exhausted += other.exhausted;
  worker_faults += other.worker_faults;
  hedges += other.hedges;
  repairs += other.repairs;
  continued += other.continued;
  lacking += other.lacking;
  undisturbed += other.undisturbed;
  virtual_ns += other.virtual_ns;
  return *this;
}

std::string Describe(const SimReport& report) {
  return fmt::format(
      "{} runs, {} events, {} kills, {} stops, {} starts without a member, {} reconnections, {} worker faults, {} "
      "calls "
      "lost, {} tried again, {} of them from where they stopped, {} second calls, {} asked once more, {} runs "
      "cancelled, {} budgets exhausted, {} runs "
      "as if undisturbed, "
      "{} virtual hours",
      report.runs, report.events, report.kills, report.stops, report.lacking, report.reconnects, report.worker_faults,
      report.calls_lost, report.retries, report.continued, report.hedges, report.repairs, report.cancelled,
      report.exhausted, report.undisturbed, report.virtual_ns / (3'600 * kSimSecond));
}

SimReport Simulate(uint64_t seed) { return Simulation(seed).Run(); }

}  // namespace conclave::orchestrator
