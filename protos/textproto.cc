// SPDX-License-Identifier: Apache-2.0
#include "protos/textproto.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>

#include <algorithm>
#include <numeric>

namespace conclave {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

constexpr size_t kErrorsMax = 100;

// 'Message type "a.b.Loop" has no field named "untill".' in words that help.
std::string Explain(const std::string& message) {
  static constexpr std::string_view kType = "Message type \"";
  static constexpr std::string_view kField = "\" has no field named \"";
  const size_t at = message.find(kField);
  if (!message.starts_with(kType) || at == std::string::npos) return message;
  const std::string type = message.substr(kType.size(), at - kType.size());
  const size_t name_begin = at + kField.size();
  const std::string name = message.substr(name_begin, message.find('"', name_begin) - name_begin);
  const Descriptor* descriptor = DescriptorPool::generated_pool()->FindMessageTypeByName(type);
  if (descriptor == nullptr) return message;
  std::vector<std::string> known;
  for (int i = 0; i < descriptor->field_count(); ++i) known.push_back(descriptor->field(i)->name());
  std::string what = fmt::format("{} has no field \"{}\"; ", descriptor->name(), name);
  if (const std::string_view nearest = Nearest(name, known); !nearest.empty()) {
    return what + fmt::format("did you mean \"{}\"?", nearest);
  }
  std::sort(known.begin(), known.end());
  return what + fmt::format("it has: {}", fmt::join(known, ", "));
}

class Collector final : public google::protobuf::io::ErrorCollector {
 public:
  explicit Collector(std::vector<TextError>* errors) : errors_(errors) {}
  void AddError(int line, google::protobuf::io::ColumnNumber /*column*/, const std::string& message) override {
    if (errors_->size() < kErrorsMax) errors_->push_back({std::max(line, 0) + 1, Explain(message)});
  }
  // The parser warns of deprecated forms; a file that means to last does not use them.
  void AddWarning(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    AddError(line, column, message);
  }

 private:
  std::vector<TextError>* errors_;
};

const FieldDescriptor* Field(const Message& message, std::string_view field) {
  return message.GetDescriptor()->FindFieldByName(std::string(field));
}

}  // namespace

int FieldLines::LineOf(const Message& message, std::string_view field, int index) const {
  const FieldDescriptor* descriptor = Field(message, field);
  if (tree_ == nullptr || descriptor == nullptr) return line_;
  if (descriptor->is_repeated() && index < 0) index = 0;
  const TextFormat::ParseLocation at = tree_->GetLocation(descriptor, index);
  return at.line < 0 ? line_ : at.line + 1;
}

FieldLines FieldLines::In(const Message& message, std::string_view field, int index) const {
  const FieldDescriptor* descriptor = Field(message, field);
  if (tree_ == nullptr || descriptor == nullptr) return FieldLines(nullptr, line_);
  return FieldLines(tree_->GetTreeForNested(descriptor, index), LineOf(message, field, index));
}

ParsedText ParseTextproto(std::string_view text, Message* message) {
  ParsedText parsed;
  parsed.tree = std::make_unique<TextFormat::ParseInfoTree>();
  if (text.size() > kTextprotoBytesMax) {
    parsed.errors.push_back({0, fmt::format("{} bytes, at most {} allowed", text.size(), kTextprotoBytesMax)});
    return parsed;
  }
  Collector collector(&parsed.errors);
  TextFormat::Parser parser;
  parser.SetRecursionLimit(kTextprotoDepthMax);
  parser.RecordErrorsTo(&collector);
  parser.WriteLocationsTo(parsed.tree.get());
  if (!parser.ParseFromString(std::string(text), message) && parsed.errors.empty()) {
    parsed.errors.push_back({0, "not a text this message can be read from"});
  }
  return parsed;
}

std::string_view Nearest(std::string_view name, const std::vector<std::string>& candidates) {
  std::string_view best;
  size_t best_distance = std::max<size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // Optimal string alignment: insertions, deletions, changes and swaps of neighbours count one each.
    std::vector<size_t> before, previous, row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= name.size(); ++i) {
      before = std::exchange(previous, row);
      row[0] = i;
      for (size_t j = 1; j <= candidate.size(); ++j) {
        const size_t change = previous[j - 1] + (name[i - 1] == candidate[j - 1] ? 0 : 1);
        row[j] = std::min({previous[j] + 1, row[j - 1] + 1, change});
        if (i > 1 && j > 1 && name[i - 1] == candidate[j - 2] && name[i - 2] == candidate[j - 1]) {
          row[j] = std::min(row[j], before[j - 2] + 1);
        }
      }
    }
    if (row.back() < best_distance) best_distance = row.back(), best = candidate;
  }
  return best;
}

}  // namespace conclave
