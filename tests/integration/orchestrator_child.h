// SPDX-License-Identifier: Apache-2.0
// One life of the built conclave-orchestrator over a fleet file and a store, with a channel of its own to it.
#pragma once

#include <grpcpp/create_channel.h>

#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "conclave/deliberation/v1/deliberation.grpc.pb.h"
#include "protos/rpc_endpoint.h"
#include "tests/testing/child_process.h"
#include "tests/testing/temp_dir.h"

namespace conclave {

class OrchestratorChild {
 public:
  // Reads fleet.textproto of the directory and keeps store.sqlite there. `before` stands in front of the program, as of
  // `env NAME=VALUE`. Serves when constructed.
  explicit OrchestratorChild(const testing::TempDir& dir, std::vector<std::string> before = {}) {
    std::vector<std::string> line = std::move(before);
    for (std::string word :
         {std::string(CONCLAVE_BINARY_DIR) + "/bin/conclave-orchestrator", std::string("--fleet"),
          dir.Path("fleet.textproto"), std::string("--store"), dir.Path("store.sqlite"), std::string("--graphs"),
          std::string(CONCLAVE_SOURCE_DIR "/graphs"), std::string("--listen"), std::string("127.0.0.1:0"),
          std::string("--log-level"), std::string("warn")}) {
      line.push_back(std::move(word));
    }
    process_ = std::make_unique<testing::ChildProcess>(line);
    const auto serves = process_->ReadLine();
    CONCLAVE_CHECK_MSG(serves.has_value(), "the orchestrator did not start");
    address_ = serves->substr(serves->find(" on ") + 4);
    stub_ = NewStub();
  }
  // Over a connection of its own: what one reader leaves unread is no other's.
  std::unique_ptr<deliberation::v1::DeliberationService::Stub> NewStub() const {
    grpc::ChannelArguments arguments = rpc::ChannelArguments();
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return deliberation::v1::DeliberationService::NewStub(
        grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments));
  }
  deliberation::v1::DeliberationService::Stub* stub() { return stub_.get(); }
  testing::ChildProcess& process() { return *process_; }
  void Kill() { process_->Signal(SIGKILL); }
  int Wait() { return process_->Wait(); }
  int Stop() {
    process_->Signal(SIGTERM);
    return process_->Wait();
  }
  int64_t Memory(const std::string& name) const { return process_->Memory(name); }

 private:
  std::unique_ptr<testing::ChildProcess> process_;
  std::string address_;
  std::unique_ptr<deliberation::v1::DeliberationService::Stub> stub_;
};

}  // namespace conclave
