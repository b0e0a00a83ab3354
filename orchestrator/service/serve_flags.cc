// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/serve_flags.h"

namespace conclave::orchestrator {

std::vector<CLI::Option*> ServeFlags::Add(CLI::App* app) {
  std::vector<CLI::Option*> added;
  const auto option = [&](const char* name, auto& value, const char* what) {
    return added.emplace_back(app->add_option(name, value, what));
  };
  const auto flag = [&](const char* name, bool& value, const char* what) {
    added.push_back(app->add_flag(name, value, what));
  };
  option("--listen", listen,
         "HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one; default: the fleet's, else 127.0.0.1:0");
  option("--store", store, "SQLite file of the runs; default: the fleet's, else ~/.cache/conclave/conclave.sqlite");
  option("--graphs", graphs, "Folder of the shipped graphs and roles; default: found beside the program");
  option("--worker-binary", worker_binary, "conclave-worker; default: beside the program");
  option("--tls-cert", server.tls.certificate, "PEM certificate chain; read again when it changes");
  option("--tls-key", server.tls.key, "PEM private key of --tls-cert");
  option("--tls-client-ca", server.tls.ca, "PEM authority; clients must present a certificate of it");
  flag("--insecure-listen", insecure_listen, "Allow plaintext on addresses other than loopback");
  flag("--reflection", server.reflection, "Serve gRPC reflection, e.g. for grpcurl");
  option("--http", http,
         "HOST:PORT of the OpenAI-compatible door, where every graph is a model \"deliberation/NAME\" and every "
         "member one; port 0 takes a free one; default: none");
  option("--http-tls-cert", http_tls.certificate,
         "PEM certificate chain of --http; read again when it changes; default: plaintext");
  option("--http-tls-key", http_tls.key, "PEM private key of --http-tls-cert");
  option("--http-tls-client-ca", http_tls.client_ca,
         "PEM authority; callers of --http must present a certificate of it");
  option("--http-token-file", http_token_file,
         "File with the token that callers of --http must bring as bearer; default: everybody may");
  option("--http-drain-seconds", http_drain_seconds, "How long requests of --http may take to end after SIGTERM")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  option("--log-level", log_level, "What is logged to stderr")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  return added;
}

std::vector<std::string> WordsOf(const std::vector<CLI::Option*>& options) {
  std::vector<std::string> words;
  for (const CLI::Option* option : options) {
    if (option->count() == 0) continue;
    words.push_back("--" + option->get_lnames().at(0));
    if (option->get_expected_max() == 0) continue;  // a flag
    words.push_back(option->results().back());
  }
  return words;
}

}  // namespace conclave::orchestrator
