// SPDX-License-Identifier: Apache-2.0
// Records of the store, read back: any bytes end in a value or DATA_LOSS.
#include <cstdint>
#include <string_view>

#include "common/check.h"
#include "orchestrator/run/stored_run.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace conclave::orchestrator;  // NOLINT(google-build-using-namespace)
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto event = DecodeEvent("runs/1", 1, bytes); event.ok()) {
    CONCLAVE_CHECK(DecodeEvent("runs/1", 1, EncodeEvent(*event)).ok());
  }
  if (const auto run = DecodeRun("runs/1", bytes); run.ok()) {
    CONCLAVE_CHECK(DecodeRun("runs/1", EncodeRun(run->request, run->spec)).ok());
  }
  if (const auto input = DecodeInput("runs/1", 0, bytes); input.ok()) {
    CONCLAVE_CHECK(DecodeInput("runs/1", 0, EncodeInput(input->input)).ok());
  }
  return 0;
}
