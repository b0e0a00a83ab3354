// SPDX-License-Identifier: Apache-2.0
// The built conclave-worker as a child of a test, serving a small model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/check.h"
#include "tests/testing/child_process.h"

namespace conclave::testing {

// Serves when constructed: one thread, scalar kernels, at most four sequences at a time.
class WorkerChild {
 public:
  explicit WorkerChild(const std::string& model) {
    process_ = std::make_unique<ChildProcess>(std::vector<std::string>{
        std::string(CONCLAVE_BINARY_DIR) + "/bin/conclave-worker", "--model", model, "--listen", "127.0.0.1:0",
        "--threads", "1", "--kernel", "scalar", "--kv-bytes", "32MiB", "--max-sequences", "4", "--log-level", "warn"});
    const auto line = process_->ReadLine();
    CONCLAVE_CHECK_MSG(line.has_value(), "the worker did not start");
    const size_t begin = line->find(" on ") + 4;
    address_ = line->substr(begin, line->find(' ', begin) - begin);
  }
  const std::string& address() const { return address_; }
  ChildProcess& process() { return *process_; }

 private:
  std::unique_ptr<ChildProcess> process_;
  std::string address_;
};

}  // namespace conclave::testing
