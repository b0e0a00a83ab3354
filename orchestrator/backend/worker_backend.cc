// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_backend.h"

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "common/status.h"
#include "orchestrator/backend/worker_dispatcher.h"
#include "orchestrator/backend/worker_transport.h"

namespace conclave::orchestrator {
namespace {

constexpr int64_t kHousekeepingNs = 50'000'000;

// A dispatcher and the thread that looks at the clock for it.
class WorkerBackend final : public Backend {
 public:
  explicit WorkerBackend(std::unique_ptr<WorkerDispatcher> dispatcher) : dispatcher_(std::move(dispatcher)) {
    housekeeper_ = std::thread([this] {
      do dispatcher_->Housekeep();
      while (dispatcher_->WaitForChange(kHousekeepingNs));
    });
  }
  ~WorkerBackend() override {
    dispatcher_->Stop();
    housekeeper_.join();
  }

  absl::Status AwaitAll(const Clock& clock, int64_t timeout_ns) {
    const int64_t until_ns = clock.NowNs() + timeout_ns;
    while (true) {
      const std::string missing = dispatcher_->Missing();
      if (missing.empty()) return absl::OkStatus();
      const int64_t left_ns = until_ns - clock.NowNs();
      if (left_ns <= 0) {
        return Unavailable("NO_WORKER: no worker answers at {}; start it, or correct the fleet file", missing);
      }
      dispatcher_->WaitForChange(std::min(left_ns, kHousekeepingNs));
    }
  }

  void Start(CallRequest request, CallSink* sink) override { dispatcher_->Start(std::move(request), sink); }
  void Cancel(CallId id) override { dispatcher_->Cancel(id); }
  std::vector<MemberFacts> Describe() const override { return dispatcher_->Describe(); }

 private:
  const std::unique_ptr<WorkerDispatcher> dispatcher_;
  std::thread housekeeper_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> ConnectWorkers(std::vector<WorkerMember> members,
                                                        const WorkerBackendOptions& options,
                                                        int64_t connect_timeout_ns) {
  std::vector<std::string> addresses;
  std::set<std::string> seen;
  for (const WorkerMember& member : members) {
    if (member.addresses.empty()) return InvalidArgument("member \"{}\" has no worker", member.name);
    for (const std::string& address : member.addresses) {
      if (seen.insert(address).second) addresses.push_back(address);
    }
  }
  ASSIGN_OR_RETURN(std::unique_ptr<WorkerTransport> transport, NewGrpcTransport(addresses, options.tls));
  auto backend = std::make_unique<WorkerBackend>(
      std::make_unique<WorkerDispatcher>(std::move(members), std::move(addresses), options, std::move(transport)));
  RETURN_IF_ERROR(backend->AwaitAll(*options.clock, connect_timeout_ns));
  return backend;
}

}  // namespace conclave::orchestrator
