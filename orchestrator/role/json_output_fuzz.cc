// SPDX-License-Identifier: Apache-2.0
// Outputs that should be one JSON object: any bytes are read or not, and what is read can be asked for.
#include <cstdint>
#include <string_view>

#include "common/check.h"
#include "orchestrator/role/json_output.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using conclave::orchestrator::JsonOutput;
  const auto output = JsonOutput::Read(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!output.has_value()) return 0;
  CONCLAVE_CHECK(output->fields().IsDict());
  CONCLAVE_CHECK(output->fields().Depth() <= conclave::orchestrator::kJsonOutputDepthMax);
  for (const std::string_view path : {"a", "a.b", "result.value", "", ".", "score"}) {
    if (output->NumberAt(path).has_value()) CONCLAVE_CHECK(output->TextAt(path).has_value());
  }
  return 0;
}
