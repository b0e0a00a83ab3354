// SPDX-License-Identifier: Apache-2.0
// A fleet of a real conclave-worker process that dies, is started again at its address, and in the end is given up.
#include <csignal>
#include <deque>

#include "common/mutex.h"
#include "orchestrator/fleet/launcher.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"

namespace conclave::orchestrator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What the fleet says, awaited one by one.
class Told {
 public:
  void Add(std::string what) {
    MutexLock lock(&mutex_);
    said_.push_back(std::move(what));
    changed_.SignalAll();
  }
  std::string Await() {
    MutexLock lock(&mutex_);
    while (said_.empty()) changed_.Wait(&mutex_);
    std::string out = std::move(said_.front());
    said_.pop_front();
    return out;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::string> said_ ABSL_GUARDED_BY(mutex_);
};

TEST(FleetLaunch, AKilledWorkerIsStartedAgainAtItsAddressAndSaidSoUntilItIsGivenUp) {
  testing::TempDir dir;
  testing::TinyModel({}).Write(dir.Path("tiny.gguf"));
  LoadedFleet fleet;
  deliberation::v1::Member* member = fleet.fleet.add_member();
  member->set_name("tiny");
  member->mutable_model()->set_path(dir.Path("tiny.gguf"));
  Told told;
  LaunchOptions options;
  options.worker_binary = CONCLAVE_BINARY_DIR "/bin/conclave-worker";
  options.restarts_max = 1;
  options.on_worker_end = [&](const std::string& what) { told.Add(what); };
  auto launched = LaunchedFleet::Launch(fleet, options);
  ASSERT_OK(launched.status());
  const LaunchedWorker first = (*launched)->workers().at(0);

  ASSERT_EQ(kill(first.pid, SIGKILL), 0);
  EXPECT_THAT(told.Await(), AllOf(HasSubstr(first.address), HasSubstr("\"tiny\""), HasSubstr("killed by signal 9"),
                                  HasSubstr("started again (1 of 1)")));
  const LaunchedWorker second = (*launched)->workers().at(0);
  EXPECT_EQ(second.address, first.address);
  EXPECT_NE(second.pid, first.pid);

  ASSERT_EQ(kill(second.pid, SIGKILL), 0);
  EXPECT_THAT(told.Await(), HasSubstr("given up after 1 new starts"));
  EXPECT_EQ((*launched)->workers().at(0).pid, 0);
}

}  // namespace
}  // namespace conclave::orchestrator
