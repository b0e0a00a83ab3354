// SPDX-License-Identifier: Apache-2.0
// A fleet of a real conclave-worker process that dies, is started again at its address, and in the end is given up.
#include <fmt/format.h>

#include <csignal>
#include <deque>

#include "common/file.h"
#include "common/mutex.h"
#include "orchestrator/fleet/launcher.h"
#include "orchestrator/http/tls_testing.h"
#include "tests/testing/child_process.h"
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

LaunchOptions WithBuiltWorkers() {
  LaunchOptions options;
  options.worker_binary = CONCLAVE_BINARY_DIR "/bin/conclave-worker";
  return options;
}

TEST(FleetLaunch, AWorkerHasTheLimitsThatItsMemberNames) {
  testing::TempDir dir;
  testing::TinyModel({}).Write(dir.Path("tiny.gguf"));
  LoadedFleet fleet;
  deliberation::v1::Member* member = fleet.fleet.add_member();
  member->set_name("tiny");
  deliberation::v1::LocalModel* model = member->mutable_model();
  model->set_path(dir.Path("tiny.gguf"));
  model->set_context_tokens(96);
  model->set_sequences(3);
  model->set_ranks(2);
  const auto launched = LaunchedFleet::Launch(fleet, WithBuiltWorkers());
  ASSERT_OK(launched.status());
  const auto facts = (*launched)->backend().Describe().at(0);
  ASSERT_TRUE(facts.model.has_value());
  EXPECT_EQ(facts.model->context_token_count(), 96);
  const std::string words = *ReadFile(fmt::format("/proc/{}/cmdline", (*launched)->workers().at(0).pid), 1 << 16);
  for (const auto& [flag, value] : {std::pair("--ranks", "2"), std::pair("--max-sequences", "3")}) {
    EXPECT_THAT(words, HasSubstr(std::string(flag) + '\0' + value + '\0'));
  }
}

TEST(FleetLaunch, AWorkerElsewhereIsReachedOverTls) {
  testing::TempDir dir;
  testing::TinyModel({}).Write(dir.Path("tiny.gguf"));
  const http::TestCertificate own = http::MakeCertificate(dir.path(), "worker");
  testing::ChildProcess worker({CONCLAVE_BINARY_DIR "/bin/conclave-worker", "--model", dir.Path("tiny.gguf"),
                                "--listen", "localhost:0", "--tls-cert", own.certificate, "--tls-key", own.key,
                                "--tls-client-ca", own.certificate});
  const auto line = worker.ReadLine();
  ASSERT_TRUE(line.has_value()) << worker.ReadErrors();
  const std::string address = line->substr(line->find(" on ") + 4);
  const std::string port = address.substr(0, address.find(' ')).substr(address.find(':') + 1);

  LoadedFleet fleet;
  deliberation::v1::Member* member = fleet.fleet.add_member();
  member->set_name("away");
  member->set_worker_address("localhost:" + port);
  member = fleet.fleet.add_member();  // beside one of the fleet's own, in plaintext
  member->set_name("here");
  member->mutable_model()->set_path(dir.Path("tiny.gguf"));
  deliberation::v1::WorkerTls* tls = fleet.fleet.mutable_worker_tls();
  tls->set_authorities(own.certificate);
  tls->set_certificate(own.certificate);
  tls->set_key(own.key);
  {
    const auto launched = LaunchedFleet::Launch(fleet, WithBuiltWorkers());
    ASSERT_OK(launched.status());
    const auto facts = (*launched)->backend().Describe();
    ASSERT_EQ(facts.size(), 2u);
    EXPECT_EQ(facts[0].name, "away");
    EXPECT_TRUE(facts[0].available && facts[1].available);
  }
  fleet.fleet.clear_worker_tls();
  LaunchOptions soon = WithBuiltWorkers();
  soon.connect_timeout_ns = 1'000'000'000;
  EXPECT_THAT(LaunchedFleet::Launch(fleet, soon).status(),
              testing::StatusIs(absl::StatusCode::kUnavailable, HasSubstr(":" + port)));
}

}  // namespace
}  // namespace conclave::orchestrator
