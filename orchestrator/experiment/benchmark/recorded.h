// SPDX-License-Identifier: Apache-2.0
// Recorded answers of models: {"id","model","text","answer"?,"sample"?} per line, .gz allowed, other fields ignored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::benchmark {

// Limits of a file; one more is an error.
inline constexpr uint32_t kRecordedModelsMax = 1u << 16;
inline constexpr uint32_t kRecordedItemsMax = 1u << 28;
inline constexpr uint64_t kRecordedSamplesMax = 1u << 20;  // sample numbers are below this

struct RecordedAnswer {
  uint32_t model = 0;  // index into RecordedAnswers::models()
  uint32_t item = 0;   // index into RecordedAnswers::items()
  uint32_t sample = 0;
  std::string_view text;                   // the whole response
  std::optional<std::string_view> answer;  // short answer, where the recorder took one
};

struct RecordedOptions {
  std::vector<std::string> models;  // load these only; empty: all. A name that the file lacks is NOT_FOUND
};

// Immutable once loaded, so any number of threads may read. Owns all text; views live as long as the object (also after
// a move). 57,398 answers of 39 MB take about 45 MB and a few hundred milliseconds.
class RecordedAnswers {
 public:
  // INVALID_ARGUMENT "file:line: what" for the first bad line and for an answer given twice: several answers of a model
  // to one item must be numbered by "sample" (absent: 0).
  static absl::StatusOr<RecordedAnswers> Load(const std::string& path, const RecordedOptions& options = {});

  std::span<const std::string_view> models() const { return models_.names; }  // in order of first appearance
  std::span<const std::string_view> items() const { return items_.names; }
  std::span<const RecordedAnswer> answers() const { return answers_; }  // in the file's order

  // The answer, or nullptr.
  const RecordedAnswer* Find(std::string_view model, std::string_view item, uint32_t sample = 0) const;
  // How many samples, numbered from 0 without a hole, the model has for the item.
  uint32_t SampleCount(std::string_view model, std::string_view item) const;

 private:
  // Bytes that stay where they are until the arena goes.
  class Arena {
   public:
    std::string_view Keep(std::string_view text);

   private:
    std::vector<std::unique_ptr<char[]>> blocks_;
    size_t used_ = 0;
    size_t size_ = 0;
  };
  struct Names {
    std::vector<std::string_view> names;
    std::unordered_map<std::string_view, uint32_t> index;
    uint32_t Intern(std::string_view name, Arena& arena);
    std::optional<uint32_t> Find(std::string_view name) const;
  };
  static uint64_t Key(uint32_t model, uint32_t item, uint32_t sample) {
    return (uint64_t{model} << 48) | (uint64_t{item} << 20) | sample;
  }

  Arena arena_;
  Names models_;
  Names items_;
  std::vector<RecordedAnswer> answers_;
  std::unordered_map<uint64_t, uint32_t> index_;  // Key -> answers_
};

}  // namespace conclave::benchmark
