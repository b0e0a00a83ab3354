// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/arms/choices.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <unordered_set>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/item.h"

namespace conclave::experiment {
namespace {

using deliberation::v1::Choice;

// The split that the benchmark asks; "": all questions.
std::string AskedSplit(const deliberation::v1::Benchmark& benchmark) {
  return benchmark.source_case() == deliberation::v1::Benchmark::kGenerator ? benchmark.generator().split()
                                                                            : benchmark.split();
}

// Without white space and case, so that the same question is found again however it was laid out.
std::string Bare(std::string_view question) {
  std::string bare;
  for (const char c : question) {
    const auto u = static_cast<unsigned char>(c);
    if (u > ' ') bare += (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return bare;
}

class Checker {
 public:
  Checker(const LoadedExperiment& experiment, const orchestrator::LoadedFleet& fleet)
      : experiment_(experiment), fleet_(fleet), asked_(AskedSplit(experiment.file.benchmark())) {
    for (const benchmark::Item& item : experiment.plan.items) questions_.insert(Bare(item.question));
  }

  absl::Status CheckDeclared() {
    for (int i = 0; i < experiment_.file.chosen_size(); ++i) {
      const Choice& choice = experiment_.file.chosen(i);
      const std::string where = fmt::format("{}: chosen {}", experiment_.path, Choice::What_Name(choice.what()));
      if (choice.what() == Choice::WHAT_UNSPECIFIED) {
        Fault("{}: chosen {} says not what; MEMBERS, WEIGHTS, THRESHOLDS or PROMPTS", experiment_.path, i + 1);
      }
      if (choice.split() == "test") {
        Fault("{}: on the test split, which is for reporting only; choose again on the development split", where);
        continue;
      }
      if (choice.split() != "development" && choice.split() != "train" && !choice.split().empty()) {
        Fault("{}: split is \"{}\"; development and train are known", where, choice.split());
        continue;
      }
      if (!choice.path().empty()) {
        RETURN_IF_ERROR(CheckQuestions(where, RelativeTo(experiment_.directory, choice.path())));
        continue;
      }
      if (choice.split().empty()) {
        Fault("{}: says not on which questions; add split: \"development\", or the path of a run or of items", where);
      } else if (choice.split() == asked_) {
        Fault("{}: on the {} split, which the benchmark asks; ask split: \"test\"", where, asked_);
      } else if (asked_.empty()) {
        Fault(
            "{}: on the {} split, but the benchmark asks all questions, those among them; add split: \"test\" to it, "
            "or "
            "say by path which questions it was chosen on",
            where, choice.split());
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckMembers(bool best_is_named) {
    bool any = false;
    std::set<std::string> seen;
    for (const auto& member : fleet_.fleet.member()) {
      if (!member.has_development()) continue;
      any = true;
      const std::string& path = member.development().path();
      if (path.empty() || !seen.insert(path).second) continue;
      RETURN_IF_ERROR(
          CheckQuestions(fmt::format("{}: member \"{}\": development results", fleet_.path, member.name()), path));
    }
    if (any && asked_ == "development" && (best_is_named || reads_weights_)) {
      Fault(
          "{}: the benchmark asks the development split, on which members of {} were measured to weigh them or to name "
          "the "
          "best; ask split: \"test\", or add baselines: false and an arm without weights",
          experiment_.path, fleet_.path);
    }
    return absl::OkStatus();
  }

  // `seating` is of the arm.
  void CheckWeights(const std::string& arm, const Seating& seating) {
    if (!seating.reads_weights) return;
    reads_weights_ = true;
    const auto& chosen = experiment_.file.chosen();
    const bool declared =
        std::any_of(chosen.begin(), chosen.end(), [](const Choice& c) { return c.what() == Choice::WEIGHTS; });
    if (declared) return;
    std::optional<double> first;
    for (const auto& member : fleet_.fleet.member()) {
      const auto& who = seating.answerers;
      if (std::find(who.begin(), who.end(), member.name()) == who.end()) continue;
      const double weight = member.has_weight() ? member.weight() : 1;
      if (member.has_development()) return;
      if (!first) first = weight;
      if (weight == *first) continue;
      Fault(
          "{}: arm \"{}\" counts votes by weights ({} of member \"{}\") of which nothing says where they come from; "
          "give "
          "members development {{ correct: .. total: .. }} instead, or add chosen {{ what: WEIGHTS split: "
          "\"development\" "
          "}} to the experiment",
          fleet_.path, arm, weight, member.name());
      return;
    }
  }

  absl::Status status() const {
    return faults_.empty() ? absl::OkStatus() : MakeStatus(absl::StatusCode::kInvalidArgument, faults_);
  }

 private:
  template <typename... Args>
  void Fault(fmt::format_string<Args...> format, Args&&... args) {
    if (!faults_.empty()) faults_ += '\n';
    faults_ += fmt::format(format, std::forward<Args>(args)...);
  }

  absl::Status CheckQuestions(const std::string& where, std::string path) {
    if (std::filesystem::is_directory(path) && std::filesystem::exists(path + "/items.jsonl")) path += "/items.jsonl";
    auto items = benchmark::LoadItems(path, {});
    if (!items.ok()) return Annotate(items.status(), where);
    size_t both = 0;
    std::string example;
    for (const benchmark::Item& item : *items) {
      if (!questions_.contains(Bare(item.question))) continue;
      if (both++ == 0) example = item.id;
    }
    if (both > 0) {
      Fault("{}: {} of the {} questions of {} are asked here, \"{}\" first; choose on others, or ask others", where,
            both, items->size(), path, example);
    }
    return absl::OkStatus();
  }

  const LoadedExperiment& experiment_;
  const orchestrator::LoadedFleet& fleet_;
  const std::string asked_;
  std::unordered_set<std::string> questions_;
  bool reads_weights_ = false;
  std::string faults_;
};

}  // namespace

absl::Status CheckChoices(const LoadedExperiment& experiment, const orchestrator::LoadedFleet& fleet,
                          orchestrator::GraphLibrary& library) {
  Checker checker(experiment, fleet);
  RETURN_IF_ERROR(checker.CheckDeclared());
  bool best_is_named = false;
  const int64_t bytes = LongestQuestion(experiment.plan);
  for (const ArmPlan& arm : experiment.plan.arms) {
    ASSIGN_OR_RETURN(const Seating seating, Seat(arm.name, arm.request, fleet, library, bytes));
    checker.CheckWeights(arm.name, seating);
    best_is_named = best_is_named || (seating.IsEnsemble() && experiment.plan.declaration.baselines_added);
  }
  RETURN_IF_ERROR(checker.CheckMembers(best_is_named));
  return checker.status();
}

}  // namespace conclave::experiment
