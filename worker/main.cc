// SPDX-License-Identifier: Apache-2.0
// conclave-worker: one process, one model, served over gRPC. Flags and wiring only.
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "common/program.h"
#include "common/signals.h"
#include "common/status.h"
#include "engine/engine.h"
#include "protos/rpc_status.h"
#include "worker/model_host.h"
#include "worker/server.h"

namespace {

using ::conclave::worker::MakeEngineHost;
using ::conclave::worker::Server;

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int64_t kShownLoadBytesMin = 1'000'000'000;  // smaller models are there before one could read it

constexpr char kDescription[] =
    "Serves one model over gRPC (conclave.inference.v1). Prints one line on stdout when it serves:\n"
    "  serving conclave.inference.v1 on HOST:PORT model=NAME instance=UUID\n"
    "and logs to stderr. SIGTERM or SIGINT drains: no new requests, running ones finish within --grace; a second "
    "signal\n"
    "exits at once.";
constexpr char kExample[] =
    "Example:\n"
    "  conclave-worker --model ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf --listen 127.0.0.1:50051 --threads 2\n"
    "Exit codes: 0 drained, 1 failed, 2 usage, 65 the model file is missing or bad.";

struct Flags {
  conclave::engine::EngineOptions engine;
  conclave::worker::ServerOptions server;
  std::string name;
  std::string log_level = "info";
  std::string device = "cpu";
  int64_t grace_seconds = 30;
  bool insecure_listen = false;
};

void AddFlags(CLI::App* app, Flags* flags) {
  conclave::engine::EngineOptions& engine = flags->engine;
  conclave::worker::ServerOptions& server = flags->server;
  server.endpoint.listen = "127.0.0.1:50051";
  const auto range = [](int64_t low, int64_t high) { return CLI::Range(low, high).description(""); };
  app->add_option("--model", engine.model_path, "GGUF file or Hugging Face directory to serve")
      ->required()
      ->type_name("PATH");
  app->add_option("--name", flags->name, "Name callers use; default: the one in the file")->type_name("NAME");
  app->add_option("--threads", engine.threads, "CPU threads; 0: one per core")->check(range(0, 1024))->type_name("N");
  app->add_option("--device", flags->device, "cpu, or cuda for the first GPU")
      ->check(CLI::IsMember({"cpu", "cuda"}).description(""))
      ->type_name("NAME")
      ->capture_default_str();
  app->add_option("--kernel", engine.kernel, "CPU kernels: auto, reference, scalar, avx2 or avx512")
      ->check(CLI::IsMember({"auto", "reference", "scalar", "avx2", "avx512"}).description(""))
      ->type_name("NAME")
      ->capture_default_str();
  app->add_option("--ranks", engine.ranks, "Split the model into as many parts, computed together; on CPUs only")
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--kv-bytes", engine.kv_bytes, "Memory of each rank for KV pages, e.g. 512MiB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false).description(""))
      ->type_name("BYTES")
      ->default_str("256MiB");
  app->add_option("--context", engine.context_tokens_max, "Longest sequence; 0: the model's own, or what the KV holds")
      ->check(range(0, 1 << 24))
      ->type_name("TOKENS");
  app->add_option("--max-sequences", engine.sequences_max, "Sequences that run together")
      ->check(range(1, 1024))
      ->type_name("N")
      ->capture_default_str();
  app->add_flag("!--no-prefix-reuse", engine.prefix_reuse, "Compute every prompt whole, to measure what reuse saves");
  app->add_option("--listen", server.endpoint.listen, "HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one")
      ->type_name("ADDRESS")
      ->capture_default_str();
  app->add_option("--tls-cert", server.endpoint.tls.certificate, "PEM certificate chain; read again when it changes")
      ->type_name("FILE");
  app->add_option("--tls-key", server.endpoint.tls.key, "PEM private key of --tls-cert")->type_name("FILE");
  app->add_option("--tls-client-ca", server.endpoint.tls.ca, "PEM authority; clients must present a certificate of it")
      ->type_name("FILE");
  app->add_flag("--insecure-listen", flags->insecure_listen, "Allow plaintext on addresses other than loopback");
  app->add_option("--metrics-port", server.metrics_port, "Prometheus /metrics here; 0 takes a free one; default: none")
      ->check(range(0, 65535))
      ->type_name("PORT");
  app->add_flag("--reflection", server.endpoint.reflection, "Serve gRPC reflection, e.g. for grpcurl");
  app->add_option("--grace", flags->grace_seconds, "Time that running requests get to finish when draining")
      ->check(range(0, 86'400))
      ->type_name("SECONDS")
      ->capture_default_str();
  app->add_option("--log-level", flags->log_level, "To stderr: trace, debug, info, warn, error or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}).description(""))
      ->type_name("LEVEL")
      ->capture_default_str();
}

int Fail(int exit_code, std::string message) {
  return conclave::FailProgram("conclave-worker", exit_code, std::move(message));
}

void LogLines(std::string_view what, std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) spdlog::info("{}: {}", what, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// A random UUID, RFC 4122 version 4.
std::string MakeInstanceId() {
  uint8_t b[16];
  CONCLAVE_CHECK(getrandom(b, sizeof(b), 0) == static_cast<ssize_t>(sizeof(b)));
  b[6] = static_cast<uint8_t>((b[6] & 0x0F) | 0x40);
  b[8] = static_cast<uint8_t>((b[8] & 0x3F) | 0x80);
  std::string out;
  for (int i = 0; i < 16; ++i) out += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
  return out;
}

// Why the engine did not start: the file's fault, the flags', or the machine's.
int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:  // an architecture or format that this program does not know
      return conclave::kExitBadInput;
    case absl::StatusCode::kInvalidArgument:
      return conclave::kExitUsage;
    default:
      return conclave::rpc::Reason(status) == "MODEL_FILE_INVALID" ? conclave::kExitBadInput : conclave::kExitFailed;
  }
}

// Returns when everything has ended; exits the process at a second signal or when the engine does not let go.
void DrainUntilIdle(Server* server, conclave::TerminationSignals* signals, int64_t grace_seconds) {
  constexpr int64_t kHangSeconds = 10;  // over the grace: a step takes far less
  const int64_t give_up_ns = conclave::Clock::System().NowNs() + (grace_seconds + kHangSeconds) * kNsPerSecond;
  server->BeginDrain(grace_seconds * kNsPerSecond);
  while (!server->WaitIdle(0)) {
    if (const std::optional<int> signal = signals->Wait(absl::Milliseconds(50))) {
      spdlog::warn("signal {} while draining: exiting at once", *signal);
      std::_Exit(128 + *signal);
    }
    if (conclave::Clock::System().NowNs() > give_up_ns) {
      spdlog::error("requests still run {} s after the grace: exiting", kHangSeconds);
      std::_Exit(conclave::kExitFailed);
    }
  }
}

int Run(Flags flags) {
  static auto* const signals = new conclave::TerminationSignals;  // never destroyed
  flags.server.instance_id = MakeInstanceId();
  flags.server.version = CONCLAVE_VERSION;
  flags.server.endpoint.plaintext =
      flags.insecure_listen ? conclave::rpc::PlaintextPolicy::kAnywhere : conclave::rpc::PlaintextPolicy::kLoopbackOnly;
  // Before the model is loaded: a mistake in an address should not take as long as a load.
  if (const auto credentials = conclave::rpc::ServerCredentials(flags.server.endpoint.listen, flags.server.endpoint.tls,
                                                                flags.server.endpoint.plaintext);
      !credentials.ok()) {
    return Fail(conclave::kExitUsage, std::string(conclave::Message(credentials.status())));
  }
  if (flags.device == "cuda") {
    if (flags.engine.kernel != "auto") {
      return Fail(conclave::kExitUsage, "--kernel is for --device cpu; leave it out with --device cuda");
    }
    flags.engine.kernel = "cuda";
  }
  // A step must hold one token of every sequence, and some prefill beside them.
  constexpr int32_t kPrefillTokensMin = 256;
  flags.engine.step_tokens_max = std::max(flags.engine.step_tokens_max, flags.engine.sequences_max + kPrefillTokensMin);
  int64_t tenths = 0;
  flags.engine.on_load = [&tenths](int64_t bytes, int64_t total) {
    if (total < kShownLoadBytesMin || bytes * 10 / total == tenths) return;
    tenths = bytes * 10 / total;
    spdlog::info("loading: {} % of {:.1f} GB", 10 * tenths, static_cast<double>(total) * 1e-9);
  };
  auto engine = conclave::engine::Engine::Create(flags.engine);
  if (!engine.ok()) return Fail(ExitCodeOf(engine.status()), std::string(conclave::Message(engine.status())));
  LogLines("memory", (*engine)->memory().ToString());
  const std::unique_ptr<conclave::worker::ModelHost> host = MakeEngineHost(*std::move(engine), flags.name);
  const conclave::engine::ModelInfo& info = host->info();
  spdlog::info("model {}: {} {}, {} parameters, context {}, kernel {}", info.name, info.family, info.quantization,
               info.params_total, info.context_tokens, info.kernel);

  auto server = Server::Start(host.get(), flags.server);
  if (!server.ok()) return Fail(conclave::kExitFailed, std::string(conclave::Message(server.status())));
  if ((*server)->metrics_port() >= 0) spdlog::info("metrics on port {}", (*server)->metrics_port());
  if (flags.insecure_listen) spdlog::warn("--insecure-listen: prompts and answers cross the network in plaintext");
  signals->BeginServing();
  fmt::print("serving conclave.inference.v1 on {} model={} instance={}\n", (*server)->address(), info.name,
             flags.server.instance_id);
  std::fflush(stdout);

  std::optional<int> signal;
  while (!signal.has_value()) signal = signals->Wait(absl::InfiniteDuration());
  spdlog::info("signal {}: draining, at most {} s", *signal, flags.grace_seconds);
  DrainUntilIdle(server->get(), signals, flags.grace_seconds);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app(kDescription, "conclave-worker");
  app.footer(kExample);
  app.set_version_flag("--version", std::string(CONCLAVE_VERSION));
  AddFlags(&app, &flags);
  return conclave::RunProgram(&app, argc, argv, &flags.log_level, [&flags] { return Run(std::move(flags)); });
}
