// SPDX-License-Identifier: Apache-2.0
// Any file of items or recorded answers: an error or a result, never a crash.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

#include "common/check.h"
#include "orchestrator/experiment/benchmark/item.h"
#include "orchestrator/experiment/benchmark/recorded.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = "/tmp/conclave_jsonl_fuzz." + std::to_string(getpid());
  std::FILE* file = std::fopen(path.c_str(), "wb");
  CONCLAVE_CHECK(file != nullptr);
  CONCLAVE_CHECK(std::fwrite(data, 1, size, file) == size);
  std::fclose(file);
  if (const auto items = conclave::benchmark::LoadItems(path); items.ok()) {
    for (const auto& item : *items) CONCLAVE_CHECK(!item.id.empty() && !item.answer.empty());
  }
  if (const auto recorded = conclave::benchmark::RecordedAnswers::Load(path); recorded.ok()) {
    for (const auto& answer : recorded->answers()) {
      CONCLAVE_CHECK(answer.model < recorded->models().size() && answer.item < recorded->items().size());
    }
  }
  std::remove(path.c_str());
  return 0;
}
