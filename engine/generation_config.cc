// SPDX-License-Identifier: Apache-2.0
#include "engine/generation_config.h"

#include "common/status.h"

namespace conclave::engine {
namespace {

absl::StatusOr<float> InRange(const JsonObject& root, std::string_view key, double min, double max, float fallback) {
  const JsonValue* value = root.Find(key);
  if (value == nullptr) return fallback;
  ASSIGN_OR_RETURN(const double number, value->Number());
  if (!(number >= min && number <= max))
    return value->Invalid(fmt::format("is {}, {} to {} allowed", number, min, max));
  return static_cast<float>(number);
}

}  // namespace

absl::StatusOr<Sampling> ReadGenerationConfig(const HfDirectory& directory) {
  Sampling sampling;
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> document, directory.ReadJson("generation_config.json"));
  if (document == nullptr) return sampling;
  ASSIGN_OR_RETURN(const JsonObject root, document->root().Object());
  ASSIGN_OR_RETURN(sampling.temperature, InRange(root, "temperature", 0, kTemperatureMax, 1.0f));
  ASSIGN_OR_RETURN(sampling.top_p, InRange(root, "top_p", 0, 1, 1.0f));
  ASSIGN_OR_RETURN(sampling.min_p, InRange(root, "min_p", 0, 1, 0.0f));
  ASSIGN_OR_RETURN(sampling.repetition_penalty, InRange(root, "repetition_penalty", 0, 10, 1.0f));
  ASSIGN_OR_RETURN(const int64_t top_k, root.IntegerOr("top_k", 0, INT32_MAX, 0));
  sampling.top_k = static_cast<int32_t>(top_k);
  ASSIGN_OR_RETURN(const bool sample, root.BoolOr("do_sample", true));
  if (!sample) sampling.temperature = 0;
  return sampling;
}

}  // namespace conclave::engine
