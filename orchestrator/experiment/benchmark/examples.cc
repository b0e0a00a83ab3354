// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/examples.h"

#include <filesystem>
#include <map>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "common/file.h"
#include "common/hash.h"
#include "common/status.h"

namespace conclave::benchmark {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepByStep = "A: Let's think step by step.";

// A prompt file's text, without a notice above a line of dashes and without space at its ends.
absl::StatusOr<std::string> PromptText(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, kExamplesBytesMax));
  const size_t dashes = text.find("\n-----\n");
  if (dashes != std::string::npos) text.erase(0, dashes + 7);
  const size_t first = text.find_first_not_of(" \n\r\t");
  if (first == std::string::npos) return InvalidArgument("{}: no examples in this file", path);
  return text.substr(first, text.find_last_not_of(" \n\r\t") + 1 - first);
}

std::string Asked(const std::string& prompt, const std::string& question) {
  const bool steps = prompt.find(kStepByStep) != std::string::npos;
  return fmt::format("{}\n\nQ: {}{}", prompt, question, steps ? "\n" + std::string(kStepByStep) : "");
}

std::string Worked(const Item& item) {
  std::string text = "Question: " + item.question;
  for (size_t k = 0; k < item.choices.size(); ++k) {
    text += fmt::format("\n{}. {}", static_cast<char>('A' + k), item.choices[k]);
  }
  return fmt::format("{}\nAnswer: {}\n\n", text, item.solution.empty() ? item.answer : item.solution);
}

absl::Status AddPrompts(const std::string& path, bool folder, std::vector<Item>& items) {
  std::map<std::string, std::string> prompts;
  for (Item& item : items) {
    auto prompt = prompts.find(item.stratum);
    if (prompt == prompts.end()) {
      if (folder && item.stratum.empty()) {
        return InvalidArgument("{}: a folder of examples is by stratum, and item {} has none", path, item.id);
      }
      ASSIGN_OR_RETURN(std::string text, PromptText(folder ? path + "/" + item.stratum + ".txt" : path));
      prompt = prompts.emplace(item.stratum, std::move(text)).first;
    }
    item.question = Asked(prompt->second, item.question);
  }
  return absl::OkStatus();
}

absl::Status AddShots(const std::string& path, size_t shots, std::vector<Item>& items) {
  if (shots < 1 || shots > kShotsMax)
    return InvalidArgument("{}: {} shots; 1 to {} are allowed", path, shots, kShotsMax);
  ASSIGN_OR_RETURN(const std::vector<Item> examples, LoadItems(path));
  // Within a stratum, for examples are shown there only: MMLU asks five of its own examples again in other subjects.
  std::unordered_set<std::string> asked;
  for (const Item& item : items) asked.insert(item.stratum + '\n' + item.question);
  std::map<std::string, std::pair<size_t, std::string>> of_stratum;
  for (const Item& example : examples) {
    auto& [count, text] = of_stratum[example.stratum];
    if (count == shots) continue;
    if (asked.contains(example.stratum + '\n' + example.question)) {
      return InvalidArgument("{}: example {} is also a question of this benchmark; take examples from another split",
                             path, example.id);
    }
    ++count;
    text += Worked(example);
  }
  for (Item& item : items) {
    const auto found = of_stratum.find(item.stratum);
    if (found == of_stratum.end() || found->second.first < shots) {
      return InvalidArgument("{}: {} examples for stratum \"{}\", and {} shots are wanted", path,
                             found == of_stratum.end() ? 0 : found->second.first, item.stratum, shots);
    }
    item.question = found->second.second + "Question: " + item.question;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AddExamples(const std::string& path, size_t shots, std::vector<Item>& items) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  bool prompts = fs::path(path).extension() == ".txt";
  if (folder) {
    for (const auto& entry : fs::directory_iterator(path, error)) {
      prompts = prompts || entry.path().extension() == ".txt";
    }
  }
  if (!prompts) return AddShots(path, shots, items);
  if (shots != 0) return InvalidArgument("{}: a prompt is taken whole; leave the number of shots out", path);
  return AddPrompts(path, folder, items);
}

std::string ItemsSha256(const std::vector<Item>& items) {
  Sha256 sha;
  const auto add = [&](std::string_view text) {
    sha.Update(fmt::format("{}:", text.size()));
    sha.Update(text);
  };
  for (const Item& item : items) {
    for (const std::string* text : {&item.id, &item.question, &item.answer, &item.cluster, &item.stratum}) add(*text);
    add(std::to_string(item.choices.size()));
    for (const std::string& choice : item.choices) add(choice);
  }
  return sha.HexDigest();
}

}  // namespace conclave::benchmark
