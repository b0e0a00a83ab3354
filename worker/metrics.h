// SPDX-License-Identifier: Apache-2.0
// What Prometheus sees of a worker. Names carry base units and the prefix conclave_; no label holds user content.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model_host.h"

namespace prometheus {
class Exposer;
}  // namespace prometheus

namespace conclave::worker {

// Thread-safe. Gauges and totals are read from the host at each scrape; latencies are observed by the service.
class Metrics final : public prometheus::Collectable {
 public:
  // `host` must outlive this.
  Metrics(const ModelHost* host, std::string_view version);

  void OnGenerateDone(absl::StatusCode code, int64_t e2e_ns);
  void OnFirstToken(int64_t since_arrival_ns);
  // `tokens` tokens of one sample, `since_last_ns` after its last ones.
  void OnTokens(int64_t tokens, int64_t since_last_ns);
  void OnReaderStalled();

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  static constexpr size_t kCodes = 17;

  const ModelHost* const host_;
  const std::string version_;
  prometheus::Registry registry_;
  prometheus::Histogram* time_to_first_token_;
  prometheus::Histogram* inter_token_;
  prometheus::Histogram* e2e_;
  prometheus::Counter* stalled_readers_;
  std::array<prometheus::Counter*, kCodes> requests_;
};

// Serves /metrics over HTTP as long as it lives.
class MetricsServer {
 public:
  // `port` 0 takes a free one. UNAVAILABLE when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& host, int32_t port,
                                                              const std::shared_ptr<Metrics>& metrics);
  ~MetricsServer();
  int32_t port() const { return port_; }

 private:
  MetricsServer(std::unique_ptr<prometheus::Exposer> exposer, int32_t port);
  std::unique_ptr<prometheus::Exposer> exposer_;
  int32_t port_;
};

}  // namespace conclave::worker
