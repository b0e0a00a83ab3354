// SPDX-License-Identifier: Apache-2.0
// What conclave-orchestrator can be told beside its fleet. `conclave up` takes the same and hands them on.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "orchestrator/http/http_server.h"
#include "protos/rpc_server.h"

namespace conclave::orchestrator {

struct ServeFlags {
  std::string listen;
  std::string store;
  std::string graphs;
  std::string worker_binary;
  std::string log_level = "info";
  std::string http;
  std::string http_token_file;
  http::ServerTls http_tls;
  int32_t http_drain_seconds = 30;
  rpc::ListenOptions server;
  bool insecure_listen = false;

  // Returns the options added.
  std::vector<CLI::Option*> Add(CLI::App* app);
};

// Those of `options` that the command line has, as words of a command line.
std::vector<std::string> WordsOf(const std::vector<CLI::Option*>& options);

}  // namespace conclave::orchestrator
