// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/recorded.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/status.h"
#include "orchestrator/experiment/benchmark/json_line.h"
#include "orchestrator/experiment/benchmark/line_reader.h"

namespace conclave::benchmark {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;

}  // namespace

static_assert(kRecordedModelsMax <= 1u << 16 && kRecordedItemsMax <= 1u << 28 && kRecordedSamplesMax <= 1u << 20,
              "Key() packs the three into 64 bits");

std::string_view RecordedAnswers::Arena::Keep(std::string_view text) {
  if (text.size() > size_ - used_) {
    size_ = std::max(kBlockBytes, text.size());
    used_ = 0;
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(size_));
  }
  if (text.empty()) return {};
  char* at = blocks_.back().get() + used_;
  std::memcpy(at, text.data(), text.size());
  used_ += text.size();
  return {at, text.size()};
}

uint32_t RecordedAnswers::Names::Intern(std::string_view name, Arena& arena) {
  if (const auto found = index.find(name); found != index.end()) return found->second;
  const std::string_view kept = arena.Keep(name);
  const uint32_t number = static_cast<uint32_t>(names.size());
  names.push_back(kept);
  index.emplace(kept, number);
  return number;
}

std::optional<uint32_t> RecordedAnswers::Names::Find(std::string_view name) const {
  const auto found = index.find(name);
  if (found == index.end()) return std::nullopt;
  return found->second;
}

absl::StatusOr<RecordedAnswers> RecordedAnswers::Load(const std::string& path, const RecordedOptions& options) {
  RecordedAnswers recorded;
  ASSIGN_OR_RETURN(LineReader reader, LineReader::Open(path));
  JsonLine json;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) break;
    RETURN_IF_ERROR(json.Parse(reader));
    ASSIGN_OR_RETURN(const std::string_view model, json.Text(reader, "model"));
    if (!options.models.empty() &&
        std::find(options.models.begin(), options.models.end(), model) == options.models.end()) {
      continue;
    }
    RecordedAnswer answer;
    answer.model = recorded.models_.Intern(model, recorded.arena_);
    ASSIGN_OR_RETURN(const std::string_view id, json.Text(reader, "id", JsonLine::Numbers::kAsText));
    answer.item = recorded.items_.Intern(id, recorded.arena_);
    if (answer.model >= kRecordedModelsMax || answer.item >= kRecordedItemsMax) {
      return ResourceExhausted("{}:{}: more than {} models or {} items", path, reader.line_number(), kRecordedModelsMax,
                               kRecordedItemsMax);
    }
    ASSIGN_OR_RETURN(const auto sample, json.OptionalCount(reader, "sample", kRecordedSamplesMax - 1));
    answer.sample = static_cast<uint32_t>(sample.value_or(0));
    ASSIGN_OR_RETURN(const std::string_view text, json.Text(reader, "text"));
    answer.text = recorded.arena_.Keep(text);
    ASSIGN_OR_RETURN(const auto short_answer, json.OptionalText(reader, "answer", JsonLine::Numbers::kAsText));
    if (short_answer) answer.answer = recorded.arena_.Keep(*short_answer);
    const uint64_t key = Key(answer.model, answer.item, answer.sample);
    if (!recorded.index_.emplace(key, static_cast<uint32_t>(recorded.answers_.size())).second) {
      return reader.Error(fmt::format(
          "model \"{}\" has answered item \"{}\", sample {}, before; number several answers with \"sample\"",
          recorded.models_.names[answer.model], recorded.items_.names[answer.item], answer.sample));
    }
    recorded.answers_.push_back(answer);
  }
  for (const std::string& model : options.models) {
    if (!recorded.models_.Find(model)) return NotFound("{}: no answer of model \"{}\" in this file", path, model);
  }
  if (recorded.answers_.empty()) return InvalidArgument("{}: no answers in this file", path);
  return recorded;
}

const RecordedAnswer* RecordedAnswers::Find(std::string_view model, std::string_view item, uint32_t sample) const {
  const std::optional<uint32_t> m = models_.Find(model);
  const std::optional<uint32_t> i = items_.Find(item);
  if (!m || !i || sample >= kRecordedSamplesMax) return nullptr;
  const auto found = index_.find(Key(*m, *i, sample));
  return found == index_.end() ? nullptr : &answers_[found->second];
}

uint32_t RecordedAnswers::SampleCount(std::string_view model, std::string_view item) const {
  uint32_t count = 0;
  while (Find(model, item, count) != nullptr) ++count;
  return count;
}

}  // namespace conclave::benchmark
