// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/fleet/launcher.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>
#include <tuple>

#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/backend/openai_backend.h"
#include "orchestrator/backend/recorded_backend.h"
#include "orchestrator/backend/router.h"
#include "orchestrator/backend/worker_backend.h"
#include "orchestrator/fleet/worker_process.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::Member;

constexpr int kWatchMs = 200;

// Members that can share worker processes: the same file served in the same way.
struct Group {
  deliberation::v1::LocalModel model;
  int32_t replicas = 1;
  std::vector<std::string> members;
  std::vector<std::string> addresses;
};

std::vector<Group> GroupMembers(const deliberation::v1::Fleet& fleet) {
  std::vector<Group> groups;
  std::map<std::string, size_t> index;
  for (const Member& member : fleet.member()) {
    if (!member.has_model()) continue;
    deliberation::v1::LocalModel settings = member.model();
    settings.clear_replicas();
    const auto [it, fresh] = index.try_emplace(settings.SerializeAsString(), groups.size());
    if (fresh) groups.push_back({settings, 1, {}, {}});
    Group& group = groups[it->second];
    group.members.push_back(member.name());
    if (member.model().has_replicas()) group.replicas = std::max(group.replicas, member.model().replicas());
  }
  return groups;
}

std::vector<std::string> Arguments(const Group& group, const LaunchOptions& options, int32_t threads,
                                   const std::string& listen) {
  std::vector<std::string> arguments = {options.worker_binary, "--model",        group.model.path(), "--listen", listen,
                                        "--log-level",         options.log_level};
  const int32_t count = group.model.has_threads() ? group.model.threads() : threads;
  arguments.insert(arguments.end(), {"--threads", std::to_string(count)});
  if (group.model.has_kv_bytes())
    arguments.insert(arguments.end(), {"--kv-bytes", std::to_string(group.model.kv_bytes())});
  if (!group.model.device().empty()) arguments.insert(arguments.end(), {"--device", group.model.device()});
  if (group.model.has_prefix_reuse() && !group.model.prefix_reuse()) arguments.emplace_back("--no-prefix-reuse");
  if (!group.model.kernel().empty()) arguments.insert(arguments.end(), {"--kernel", group.model.kernel()});
  const auto add = [&arguments](bool set, const char* flag, int32_t value) {
    if (set) arguments.insert(arguments.end(), {flag, std::to_string(value)});
  };
  add(group.model.has_ranks(), "--ranks", group.model.ranks());
  add(group.model.has_context_tokens(), "--context", group.model.context_tokens());
  add(group.model.has_sequences(), "--max-sequences", group.model.sequences());
  return arguments;
}

absl::StatusOr<std::unique_ptr<Backend>> OpenRecordings(const deliberation::v1::Fleet& fleet) {
  std::map<std::string, std::vector<const Member*>> by_path;
  for (const Member& member : fleet.member()) {
    if (member.has_recorded()) by_path[member.recorded().path()].push_back(&member);
  }
  std::vector<RecordedMember> recorded;
  for (const auto& [path, members] : by_path) {
    benchmark::RecordedOptions options;
    for (const Member* member : members) {
      options.models.push_back(member->recorded().model().empty() ? member->name() : member->recorded().model());
    }
    ASSIGN_OR_RETURN(auto loaded, benchmark::RecordedAnswers::Load(path, options));
    const auto answers = std::make_shared<const benchmark::RecordedAnswers>(std::move(loaded));
    for (size_t i = 0; i < members.size(); ++i) {
      RecordedMember& out = recorded.emplace_back();
      out.name = members[i]->name();
      out.model = options.models[i];
      out.path = path;
      out.answers = answers;
      if (members[i]->has_weight()) out.weight = members[i]->weight();
      if (members[i]->has_card()) out.card = members[i]->card();
    }
  }
  if (recorded.empty()) return std::unique_ptr<Backend>();
  return NewRecordedBackend(std::move(recorded));
}

absl::StatusOr<std::unique_ptr<Backend>> OpenServers(const deliberation::v1::Fleet& fleet,
                                                     const LaunchOptions& options) {
  using deliberation::v1::OpenAi;
  std::vector<OpenAiMember> members;
  for (const Member& member : fleet.member()) {
    if (!member.has_openai()) continue;
    const OpenAi& server = member.openai();
    const auto declares = [&server](OpenAi::Capability capability) {
      return std::count(server.capability().begin(), server.capability().end(), capability) > 0;
    };
    OpenAiMember& out = members.emplace_back();
    out.name = member.name();
    out.url = server.url();
    out.model = server.model().empty() ? member.name() : server.model();
    out.authorities = server.authorities();
    if (server.has_parallel_calls()) out.parallel_calls = server.parallel_calls();
    out.abilities = {.seed = declares(OpenAi::SEED),
                     .logprobs = declares(OpenAi::LOGPROBS),
                     .p_true = false,
                     .extended_sampling = declares(OpenAi::EXTENDED_SAMPLING),
                     .experts = false,
                     .json_schema = declares(OpenAi::JSON_SCHEMA),
                     .grammar = false};
    if (member.has_weight()) out.weight = member.weight();
    if (member.has_card()) out.card = member.card();
    if (server.api_key_env().empty()) continue;
    out.api_key = options.variable ? options.variable(server.api_key_env()) : "";
    if (out.api_key.empty()) {
      return FailedPrecondition("member \"{}\": its key is wanted in the environment variable {}, which is not set",
                                member.name(), server.api_key_env());
    }
  }
  if (members.empty()) return std::unique_ptr<Backend>();
  return NewOpenAiBackend(std::move(members), {});
}

}  // namespace

class LaunchedFleet::Impl {
 public:
  explicit Impl(LaunchOptions options) : options_(std::move(options)) {}
  ~Impl() {
    stopping_ = true;
    if (watcher_.joinable()) watcher_.join();
    backend_.reset();  // calls end before the workers do
    MutexLock lock(&mutex_);
    for (Slot& slot : slots_) {
      if (slot.process != nullptr) slot.process->Terminate();  // all at once; the destructors wait
    }
    slots_.clear();
  }

  absl::Status Launch(const LoadedFleet& fleet) {
    std::vector<Group> groups = GroupMembers(fleet.fleet);
    int32_t workers = 0;
    for (const Group& group : groups) workers += group.replicas;
    threads_ = std::max(1, options_.cores / std::max(1, workers));
    for (Group& group : groups) RETURN_IF_ERROR(StartGroup(&group));
    RETURN_IF_ERROR(WaitForAll(&groups));
    RETURN_IF_ERROR(Connect(fleet, groups));
    if (workers > 0) watcher_ = std::thread([this] { Watch(); });
    return absl::OkStatus();
  }

  Backend& backend() { return *backend_; }

  std::vector<LaunchedWorker> workers() const {
    MutexLock lock(&mutex_);
    std::vector<LaunchedWorker> out;
    for (const Slot& slot : slots_) {
      out.push_back({slot.address, slot.group.model.path(), slot.group.members,
                     slot.process == nullptr ? 0 : slot.process->pid()});
    }
    return out;
  }

 private:
  struct Slot {
    Group group;
    size_t group_index = 0;
    std::string address;
    std::unique_ptr<WorkerProcess> process;  // null: given up
    int restarts = 0;
  };

  absl::Status StartGroup(Group* group) {
    MutexLock lock(&mutex_);
    for (int32_t i = 0; i < group->replicas; ++i) {
      ASSIGN_OR_RETURN(auto process, WorkerProcess::Start(Arguments(*group, options_, threads_, "127.0.0.1:0")));
      slots_.push_back({*group, groups_started_, "", std::move(process), 0});
    }
    ++groups_started_;
    return absl::OkStatus();
  }

  // The processes load their models side by side.
  absl::Status WaitForAll(std::vector<Group>* groups) {
    MutexLock lock(&mutex_);
    for (Slot& slot : slots_) {
      auto address = slot.process->WaitUntilServing(options_.start_timeout_ns, Clock::System());
      if (!address.ok()) return Annotate(address.status(), fmt::format("member \"{}\"", slot.group.members[0]));
      slot.address = *address;
      (*groups)[slot.group_index].addresses.push_back(*address);
    }
    return absl::OkStatus();
  }

  absl::Status Connect(const LoadedFleet& fleet, const std::vector<Group>& groups) {
    std::vector<WorkerMember> started, serving;  // by this fleet; before it
    for (const Member& member : fleet.fleet.member()) {
      WorkerMember out;
      out.name = member.name();
      if (member.has_worker_address()) out.addresses = {member.worker_address()};
      for (const Group& group : groups) {
        if (std::find(group.members.begin(), group.members.end(), member.name()) != group.members.end())
          out.addresses = group.addresses;
      }
      if (out.addresses.empty()) continue;
      if (member.has_weight()) out.weight = member.weight();
      if (member.has_card()) out.card = member.card();
      (member.has_worker_address() ? serving : started).push_back(std::move(out));
    }
    const auto& files = fleet.fleet.worker_tls();
    WorkerBackendOptions over_tls;
    over_tls.tls = {files.certificate(), files.key(), files.authorities()};
    std::vector<std::unique_ptr<Backend>> backends;
    for (const auto& [members, how] : {std::pair(&started, WorkerBackendOptions()), std::pair(&serving, over_tls)}) {
      if (members->empty()) continue;
      ASSIGN_OR_RETURN(auto workers, ConnectWorkers(std::move(*members), how, options_.connect_timeout_ns));
      backends.push_back(std::move(workers));
    }
    ASSIGN_OR_RETURN(auto recorded, OpenRecordings(fleet.fleet));
    if (recorded != nullptr) backends.push_back(std::move(recorded));
    ASSIGN_OR_RETURN(auto servers, OpenServers(fleet.fleet, options_));
    if (servers != nullptr) backends.push_back(std::move(servers));
    ASSIGN_OR_RETURN(backend_, NewRouter(std::move(backends), fleet.MemberNames()));
    return absl::OkStatus();
  }

  // Own thread: starts dead workers again. It also is the parent of what it starts, and lives until the end.
  void Watch() {
    while (!stopping_) {
      poll(nullptr, 0, kWatchMs);
      std::vector<std::string> told;
      {
        MutexLock lock(&mutex_);
        for (Slot& slot : slots_) {
          if (slot.process != nullptr && slot.process->HasEnded() && !stopping_) told.push_back(StartAgain(&slot));
        }
      }
      for (const std::string& what : told) {
        if (options_.on_worker_end) options_.on_worker_end(what);
      }
    }
  }

  // Says what it did about a worker that ended.
  std::string StartAgain(Slot* slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string ended = fmt::format("worker {} of member \"{}\" (process {}) {}", slot->address,
                                          slot->group.members[0], slot->process->pid(), slot->process->HowItEnded());
    slot->process.reset();
    if (slot->restarts >= options_.restarts_max) {
      return fmt::format("{}; given up after {} new starts", ended, slot->restarts);
    }
    ++slot->restarts;
    auto process = WorkerProcess::Start(Arguments(slot->group, options_, threads_, slot->address));
    if (!process.ok()) return fmt::format("{}; given up: {}", ended, Message(process.status()));
    slot->process = *std::move(process);
    return fmt::format("{}; started again ({} of {})", ended, slot->restarts, options_.restarts_max);
  }

  const LaunchOptions options_;
  int32_t threads_ = 1;
  size_t groups_started_ = 0;
  mutable Mutex mutex_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Backend> backend_;
  std::atomic<bool> stopping_{false};
  std::thread watcher_;
};

absl::StatusOr<std::unique_ptr<LaunchedFleet>> LaunchedFleet::Launch(const LoadedFleet& fleet,
                                                                     const LaunchOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  RETURN_IF_ERROR(impl->Launch(fleet));
  return std::unique_ptr<LaunchedFleet>(new LaunchedFleet(std::move(impl)));
}

LaunchedFleet::LaunchedFleet(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LaunchedFleet::~LaunchedFleet() = default;
Backend& LaunchedFleet::backend() { return impl_->backend(); }
std::vector<LaunchedWorker> LaunchedFleet::workers() const { return impl_->workers(); }

}  // namespace conclave::orchestrator
