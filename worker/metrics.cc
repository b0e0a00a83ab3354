// SPDX-License-Identifier: Apache-2.0
#include "worker/metrics.h"

#include <prometheus/exposer.h>

#include <exception>
#include <utility>

#include "common/status.h"

namespace conclave::worker {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr double kSecondsPerNs = 1e-9;

// From a 1 ms step to a long answer on a slow machine, about three per decade.
const prometheus::Histogram::BucketBoundaries& SecondsBuckets() {
  static const prometheus::Histogram::BucketBoundaries buckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                                  0.5,   1,      2.5,   5,    10,    30,   60,  300};
  return buckets;
}

prometheus::Histogram* AddHistogram(prometheus::Registry* registry, const char* name, const char* help) {
  return &prometheus::BuildHistogram().Name(name).Help(help).Register(*registry).Add({}, SecondsBuckets());
}

MetricFamily Single(const char* name, const char* help, MetricType type, double value) {
  ClientMetric metric;
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  return MetricFamily{name, help, type, {metric}};
}

MetricFamily Info(const char* name, const char* help, std::vector<ClientMetric::Label> labels) {
  ClientMetric metric;
  metric.gauge.value = 1;
  metric.label = std::move(labels);
  return MetricFamily{name, help, MetricType::Gauge, {metric}};
}

}  // namespace

Metrics::Metrics(const ModelHost* host, std::string_view version) : host_(host), version_(version) {
  time_to_first_token_ = AddHistogram(&registry_, "conclave_time_to_first_token_seconds",
                                      "From the arrival of a Generate call to its first token");
  inter_token_ = AddHistogram(&registry_, "conclave_inter_token_seconds", "Between two tokens of one sample");
  e2e_ = AddHistogram(&registry_, "conclave_e2e_seconds", "From the arrival of a Generate call to its end");
  stalled_readers_ = &prometheus::BuildCounter()
                          .Name("conclave_stalled_readers_total")
                          .Help("Streams cancelled because their client stopped reading")
                          .Register(registry_)
                          .Add({});
  auto& requests = prometheus::BuildCounter()
                       .Name("conclave_requests_total")
                       .Help("Generate calls by the gRPC status they ended with")
                       .Register(registry_);
  for (size_t code = 0; code < kCodes; ++code) {
    requests_[code] = &requests.Add({{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
  }
}

void Metrics::OnGenerateDone(absl::StatusCode code, int64_t e2e_ns) {
  const size_t i = static_cast<size_t>(code);
  requests_[i < kCodes ? i : static_cast<size_t>(absl::StatusCode::kUnknown)]->Increment();
  e2e_->Observe(static_cast<double>(e2e_ns) * kSecondsPerNs);
}

void Metrics::OnFirstToken(int64_t since_arrival_ns) {
  time_to_first_token_->Observe(static_cast<double>(since_arrival_ns) * kSecondsPerNs);
}

void Metrics::OnTokens(int64_t tokens, int64_t since_last_ns) {
  const double seconds = static_cast<double>(since_last_ns) * kSecondsPerNs / static_cast<double>(tokens);
  for (int64_t i = 0; i < tokens; ++i) inter_token_->Observe(seconds);
}

void Metrics::OnReaderStalled() { stalled_readers_->Increment(); }

std::vector<MetricFamily> Metrics::Collect() const {
  const engine::EngineLoad load = host_->load();
  const engine::ModelInfo& info = host_->info();
  const double pages = static_cast<double>(load.kv_pages_total);
  const auto gauge = [](const char* name, const char* help, double value) {
    return Single(name, help, MetricType::Gauge, value);
  };
  const auto total = [](const char* name, const char* help, int64_t value) {
    return Single(name, help, MetricType::Counter, static_cast<double>(value));
  };
  std::vector<MetricFamily> out = registry_.Collect();
  out.push_back(gauge("conclave_requests_running", "Sequences in the batch", load.running_sequences));
  out.push_back(gauge("conclave_requests_waiting", "Requests in the queue", load.waiting_requests));
  out.push_back(gauge("conclave_waiting_tokens", "Their prompt tokens", static_cast<double>(load.waiting_tokens)));
  out.push_back(gauge("conclave_kv_cache_usage_ratio", "KV pages in use, of all",
                      pages > 0 ? static_cast<double>(load.kv_pages_used) / pages : 0));
  out.push_back(gauge("conclave_kv_pinned_ratio", "KV pages that pinned prefixes take, of all",
                      pages > 0 ? static_cast<double>(load.kv_pages_pinned) / pages : 0));
  out.push_back(gauge("conclave_draining", "1 when no new requests are taken", load.draining ? 1 : 0));
  out.push_back(total("conclave_steps_total", "Steps of the engine", load.steps));
  out.push_back(total("conclave_prompt_tokens_total", "Prompt tokens", load.prompt_tokens));
  out.push_back(total("conclave_cached_prompt_tokens_total", "Prompt tokens that were not computed again",
                      load.cached_prompt_tokens));
  out.push_back(total("conclave_output_tokens_total", "Tokens generated", load.output_tokens));
  out.push_back(total("conclave_preemptions_total", "Sequences put back for lack of KV pages", load.preemptions));
  out.push_back(
      Info("conclave_cache_config_info", "How KV memory is divided",
           {{"block_size", std::to_string(load.kv_page_tokens)}, {"num_blocks", std::to_string(load.kv_pages_total)}}));
  out.push_back(Info("conclave_model_info", "What is served",
                     {{"model", info.name},
                      {"family", info.family},
                      {"quantization", info.quantization},
                      {"revision", info.revision},
                      {"kernel", info.kernel},
                      {"version", version_}}));
  return out;
}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& host, int32_t port,
                                                                    const std::shared_ptr<Metrics>& metrics) {
  const bool v6 = host.find(':') != std::string::npos;
  const std::string address = v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(address, /*num_threads=*/2);
    exposer->RegisterCollectable(metrics);
    const std::vector<int> ports = exposer->GetListeningPorts();
    if (ports.empty()) return Unavailable("metrics: {} is not listening", address);
    return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(exposer), ports.front()));
  } catch (const std::exception& e) {
    return Unavailable("metrics: cannot listen on {} ({}); choose another --metrics-port", address, e.what());
  }
}

MetricsServer::MetricsServer(std::unique_ptr<prometheus::Exposer> exposer, int32_t port)
    : exposer_(std::move(exposer)), port_(port) {}

MetricsServer::~MetricsServer() = default;

}  // namespace conclave::worker
