// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/experiment_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "absl/strings/ascii.h"
#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/examples.h"
#include "orchestrator/experiment/benchmark/generator.h"
#include "orchestrator/experiment/benchmark/item.h"
#include "orchestrator/experiment/benchmark/split.h"
#include "orchestrator/ledger/budget.h"
#include "protos/textproto.h"

namespace conclave::experiment {
namespace {

using deliberation::v1::Arm;
using deliberation::v1::Baseline;
using deliberation::v1::Benchmark;
using deliberation::v1::Experiment;

constexpr double kDefaultMargin = 0.03;
constexpr double kDefaultDiscordance = 0.1;
constexpr int32_t kDefaultConcurrency = 4;
constexpr int64_t kWallSecondsMax = int64_t{366} * 24 * 3600;

// Collects errors with their places.
class Errors {
 public:
  explicit Errors(std::string path) : path_(std::move(path)) {}
  template <typename... Args>
  void Add(int line, fmt::format_string<Args...> format, Args&&... args) {
    const std::string place = line > 0 ? fmt::format("{}:{}", path_, line) : path_;
    text_ +=
        fmt::format("{}{}: {}", text_.empty() ? "" : "\n", place, fmt::format(format, std::forward<Args>(args)...));
  }
  absl::Status status() const {
    return text_.empty() ? absl::OkStatus() : MakeStatus(absl::StatusCode::kInvalidArgument, text_);
  }

 private:
  const std::string path_;
  std::string text_;
};

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= 64 &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
}

void CheckArms(const Experiment& file, const FieldLines& lines, Errors* errors) {
  if (file.arm_size() == 0) errors->Add(lines.line(), "has no arm; add arm {{ name: \"..\" graph: \"single\" }}");
  const auto declared =
      std::count_if(file.arm().begin(), file.arm().end(), [](const Arm& a) { return !a.generated(); });
  if (declared > kArmsMax) errors->Add(lines.line(), "has {} arms, at most {} are allowed", declared, kArmsMax);
  std::set<std::string> names;
  for (int i = 0; i < file.arm_size(); ++i) {
    const Arm& arm = file.arm(i);
    const int line = lines.LineOf(file, "arm", i);
    const size_t longest = arm.generated() ? kGeneratedNameMax : kArmNameMax;
    if (arm.name().empty() || arm.name().size() > longest) {
      errors->Add(line, "arm {} needs a name of 1 to {} bytes", i + 1, longest);
    } else if (!names.insert(arm.name()).second) {
      errors->Add(line, "arm \"{}\": another arm has this name", arm.name());
    }
    if (arm.graph().empty())
      errors->Add(line, "arm \"{}\": graph is missing; a shipped graph's name or a path", arm.name());
  }
}

void CheckContrasts(const Experiment& file, const FieldLines& lines, Errors* errors) {
  std::vector<std::string> names;
  for (const Arm& arm : file.arm()) names.push_back(arm.name());
  int primary = 0;
  for (int i = 0; i < file.contrast_size(); ++i) {
    const auto& contrast = file.contrast(i);
    const int line = lines.LineOf(file, "contrast", i);
    for (const std::string& name : {contrast.a(), contrast.b()}) {
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      const std::string_view near = Nearest(name, names);
      errors->Add(line, "contrast names arm \"{}\", which is not declared{}", name,
                  near.empty() ? std::string() : fmt::format("; is \"{}\" meant?", near));
    }
    if (contrast.a() == contrast.b()) errors->Add(line, "contrast compares \"{}\" with itself", contrast.a());
    primary += contrast.primary() ? 1 : 0;
    if (contrast.has_margin() && !(contrast.margin() > 0 && contrast.margin() < 1)) {
      errors->Add(line, "margin is {}; an accuracy between 0 and 1 is needed, e.g. 0.03", contrast.margin());
    }
  }
  for (int i = 0; i < file.contrast_size(); ++i) {
    const auto& contrast = file.contrast(i);
    if (!contrast.has_discordance() || (contrast.discordance() > 0 && contrast.discordance() <= 1)) continue;
    errors->Add(lines.LineOf(file, "contrast", i),
                "discordance is {}; a share of questions above 0, at most 1, is needed", contrast.discordance());
  }
  if (primary > 1) errors->Add(lines.line(), "{} contrasts are primary; at most one can be", primary);
}

void CheckBenchmark(const Experiment& file, const FieldLines& lines, Errors* errors) {
  const int line = lines.LineOf(file, "benchmark");
  const Benchmark& benchmark = file.benchmark();
  if (benchmark.source_case() == Benchmark::SOURCE_NOT_SET) {
    errors->Add(line, "benchmark needs a path or a generator, e.g. benchmark {{ path: \"test.jsonl\" }}");
  }
  if (benchmark.limit() < 0) errors->Add(line, "benchmark limit is {}; 0 takes all items", benchmark.limit());
  const bool published = benchmark.source_case() == Benchmark::kPath;
  if (!benchmark.split().empty() &&
      (!published || (benchmark.split() != "development" && benchmark.split() != "test"))) {
    errors->Add(line, "benchmark split is \"{}\"; \"development\" and \"test\" are known, for a path only",
                benchmark.split());
  }
  if (benchmark.has_examples() && (!published || benchmark.examples().path().empty())) {
    errors->Add(line, "benchmark examples need a path of their own, and stand before questions of a path");
  }
  if (benchmark.examples().shots() < 0) errors->Add(line, "examples: {} shots", benchmark.examples().shots());
  const std::string& split = benchmark.generator().split();
  if (!split.empty() && !benchmark::SplitNamed(split).has_value()) {
    errors->Add(lines.LineOf(benchmark.generator(), "split"),
                "split is \"{}\"; train, development and test are known, and none takes all", split);
  }
  const auto grader = grade::MakeGrader(benchmark.grader().empty() ? "gsm8k" : benchmark.grader());
  if (!grader.ok()) errors->Add(line, "{}", Message(grader.status()));
}

void CheckBudget(const Experiment& file, const FieldLines& lines, Errors* errors) {
  if (!file.has_budget()) return;
  const int line = lines.LineOf(file, "budget");
  const deliberation::v1::Budget& budget = file.budget();
  orchestrator::BudgetAccount account;
  if (const absl::Status status = account.AddLimit("experiment", budget); !status.ok()) {
    errors->Add(line, "{}", Message(status));
  }
  const auto& time = budget.wall_time();
  if (budget.has_wall_time() && (time.seconds() < 0 || time.nanos() < 0 || time.seconds() > kWallSecondsMax)) {
    errors->Add(line, "budget: wall_time is {} s; 0 to {} are allowed", time.seconds(), kWallSecondsMax);
  }
  if (budget.on_exhausted() != deliberation::v1::Budget::ON_EXHAUSTED_UNSPECIFIED) {
    errors->Add(line,
                "budget: on_exhausted means nothing for a whole experiment, which keeps what is done; leave it out");
  }
}

void CheckRest(const Experiment& file, const FieldLines& lines, Errors* errors) {
  if (!IsName(file.name())) {
    errors->Add(lines.LineOf(file, "name"), "name is \"{}\"; 1 to 64 of a-z, 0-9, _ and - are needed", file.name());
  }
  if (file.has_replicates() && (file.replicates() < 1 || file.replicates() > kReplicatesMax)) {
    errors->Add(lines.LineOf(file, "replicates"), "replicates is {}; 1 to {} are allowed", file.replicates(),
                kReplicatesMax);
  }
  if (file.has_concurrency() && (file.concurrency() < 1 || file.concurrency() > kConcurrencyMax)) {
    errors->Add(lines.LineOf(file, "concurrency"), "concurrency is {}; 1 to {} are allowed", file.concurrency(),
                kConcurrencyMax);
  }
  if (file.has_fleet() != file.fleet_path().empty()) {
    errors->Add(lines.line(), "needs members: exactly one of fleet {{ .. }} and fleet_path: \"..\"");
  }
}

absl::StatusOr<std::vector<benchmark::Item>> LoadItems(const LoadedExperiment& loaded, int32_t limit) {
  const Benchmark& b = loaded.file.benchmark();
  const int32_t most = limit > 0 && (b.limit() == 0 || limit < b.limit()) ? limit : b.limit();
  if (b.source_case() == Benchmark::kPath) {
    benchmark::LoadOptions options;
    options.format = b.format();
    options.limit = static_cast<size_t>(most);
    options.split = benchmark::SplitNamed(b.split());
    ASSIGN_OR_RETURN(auto items, benchmark::LoadItems(loaded.benchmark_path, options));
    if (b.has_examples()) {
      RETURN_IF_ERROR(benchmark::AddExamples(RelativeTo(loaded.directory, b.examples().path()),
                                             static_cast<size_t>(b.examples().shots()), items));
    }
    return items;
  }
  benchmark::GeneratorOptions options;
  options.kinds.assign(b.generator().kind().begin(), b.generator().kind().end());
  options.count = static_cast<size_t>(std::max(0, b.generator().count()));
  if (most > 0) options.count = std::min(options.count, static_cast<size_t>(most));
  options.seed = b.generator().seed();
  if (b.generator().has_difficulty()) options.difficulty = b.generator().difficulty();
  options.split = benchmark::SplitNamed(b.generator().split());
  auto items = benchmark::Generate(options);
  if (!items.ok()) return Annotate(items.status(), loaded.path + ": generator");
  return items;
}

absl::Status TakeShard(const Shard& shard, LoadedExperiment* loaded) {
  std::vector<benchmark::Item>& items = loaded->plan.items;
  loaded->items_total = items.size();
  loaded->items_sha256 = benchmark::ItemsSha256(items);
  if (shard.count == 1) return absl::OkStatus();
  std::vector<benchmark::Item> own;
  for (size_t i = 0; i < items.size(); ++i) {
    if (shard.Has(i)) own.push_back(std::move(items[i]));
  }
  items = std::move(own);
  if (!items.empty()) return absl::OkStatus();
  return InvalidArgument("{}: shard {}/{} is empty, for there are {} items", loaded->path, shard.index, shard.count,
                         loaded->items_total);
}

deliberation::v1::RunRequest RequestOf(const LoadedExperiment& loaded, const Arm& arm) {
  deliberation::v1::RunRequest request;
  const bool is_path = arm.graph().find('/') != std::string::npos || arm.graph().ends_with(".textproto");
  request.set_graph_name(is_path ? RelativeTo(loaded.directory, arm.graph()) : arm.graph());
  for (const auto& bind : arm.bind()) {
    auto* binding = request.add_bindings();
    binding->set_name(bind.name());
    *binding->mutable_members() = bind.member();
  }
  if (arm.has_sampling()) *request.mutable_sampling() = arm.sampling();
  if (arm.has_budget()) *request.mutable_budget() = arm.budget();
  return request;
}

bool Wanted(const LoadOptions& options, const std::string& arm) {
  return options.arms.empty() || std::find(options.arms.begin(), options.arms.end(), arm) != options.arms.end();
}

// Contrasts as declared, or every arm against the last one; only those whose arms are wanted.
std::vector<ContrastSpec> ContrastsOf(const Experiment& file, const LoadOptions& options) {
  std::vector<ContrastSpec> contrasts;
  for (const auto& c : file.contrast()) {
    contrasts.push_back({c.a(), c.b(), c.primary(), c.has_margin() ? c.margin() : kDefaultMargin, false,
                         c.has_discordance() ? c.discordance() : kDefaultDiscordance});
  }
  if (contrasts.empty()) {
    std::vector<std::string> names;
    for (const Arm& arm : file.arm()) {
      if (Wanted(options, arm.name()) && !arm.generated()) names.push_back(arm.name());
    }
    for (size_t i = 0; i + 1 < names.size(); ++i) contrasts.push_back({names[i], names.back(), i == 0, kDefaultMargin});
  }
  for (const Baseline& baseline : file.baseline()) {
    const bool curve = baseline.kind() == Baseline::BEST_MEMBER_CURVE || baseline.kind() == Baseline::RIVAL_CURVE;
    if (curve || baseline.arm().empty() || baseline.arm() == baseline.of()) continue;
    const bool there = std::any_of(contrasts.begin(), contrasts.end(), [&](const ContrastSpec& c) {
      return (c.a == baseline.of() && c.b == baseline.arm()) || (c.b == baseline.of() && c.a == baseline.arm());
    });
    if (!there) contrasts.push_back({baseline.of(), baseline.arm(), false, kDefaultMargin, true});
  }
  std::erase_if(contrasts, [&](const ContrastSpec& c) { return !Wanted(options, c.a) || !Wanted(options, c.b); });
  return contrasts;
}

}  // namespace

std::string RelativeTo(const std::string& directory, const std::string& name) {
  if (name.empty() || name.starts_with("/") || name.starts_with("~/") || directory.empty()) return name;
  return (std::filesystem::path(directory) / name).lexically_normal().string();
}

void FillArms(const LoadOptions& options, LoadedExperiment* loaded) {
  Plan& plan = loaded->plan;
  plan.declaration.contrasts = ContrastsOf(loaded->file, options);
  plan.declaration.baselines.clear();
  for (const Baseline& baseline : loaded->file.baseline()) {
    if (!Wanted(options, baseline.of())) continue;
    plan.declaration.baselines.push_back(
        {baseline.of(), BaselineName(baseline.kind()), baseline.subject(), baseline.arm(), baseline.why_not()});
  }
  plan.arms.clear();
  plan.declaration.generated_arms.clear();
  for (const Arm& arm : loaded->file.arm()) {
    if (!Wanted(options, arm.name())) continue;
    plan.arms.push_back({arm.name(), RequestOf(*loaded, arm), arm.generated()});
    if (arm.generated()) plan.declaration.generated_arms.push_back(arm.name());
  }
}

std::string BaselineName(Baseline::Kind kind) { return absl::AsciiStrToLower(Baseline::Kind_Name(kind)); }

std::string CostUnitName(deliberation::v1::CostUnit unit) {
  if (unit == deliberation::v1::COST_UNIT_UNSPECIFIED) unit = deliberation::v1::FLOPS;
  return absl::AsciiStrToLower(deliberation::v1::CostUnit_Name(unit));
}

absl::StatusOr<LoadedExperiment> LoadExperiment(const std::string& path, const LoadOptions& options) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kTextprotoBytesMax));
  LoadedExperiment loaded;
  loaded.path = path;
  loaded.directory = std::filesystem::path(path).parent_path().string();
  Experiment& file = loaded.file;
  const ParsedText parsed = ParseTextproto(text, &file);
  Errors errors(path);
  for (const TextError& error : parsed.errors) errors.Add(error.line, "{}", error.message);
  RETURN_IF_ERROR(errors.status());
  const FieldLines lines = parsed.lines();
  CheckRest(file, lines, &errors);
  CheckBenchmark(file, lines, &errors);
  CheckArms(file, lines, &errors);
  CheckContrasts(file, lines, &errors);
  CheckBudget(file, lines, &errors);
  for (const std::string& name : options.arms) {
    std::vector<std::string> names;
    for (const Arm& arm : file.arm()) names.push_back(arm.name());
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      errors.Add(0, "--arm {}: no such arm; the file declares {}", name, fmt::join(names, ", "));
    }
  }
  RETURN_IF_ERROR(errors.status());

  loaded.fleet_path = RelativeTo(loaded.directory, file.fleet_path());
  loaded.benchmark_path = RelativeTo(loaded.directory, file.benchmark().path());
  Plan& plan = loaded.plan;
  const std::string grader = file.benchmark().grader().empty() ? "gsm8k" : file.benchmark().grader();
  ASSIGN_OR_RETURN(plan.grader, grade::MakeGrader(grader));
  ASSIGN_OR_RETURN(plan.items, LoadItems(loaded, options.limit));
  RETURN_IF_ERROR(TakeShard(options.shard, &loaded));
  Declaration& d = plan.declaration;
  d.name = file.name(), d.question = file.question(), d.selection_rule = file.selection_rule();
  d.benchmark = !file.benchmark().name().empty() ? file.benchmark().name()
                : loaded.benchmark_path.empty()  ? "generated"
                                                 : std::filesystem::path(loaded.benchmark_path).filename().string();
  d.grader = grader;
  d.replicates = file.has_replicates() ? file.replicates() : 1;
  d.seed = file.seed();
  FillArms(options, &loaded);
  plan.group.assign(file.group().begin(), file.group().end());
  plan.budget = file.budget();
  d.baselines_added = !file.has_baselines() || file.baselines();
  d.match = CostUnitName(file.match());
  plan.concurrency = file.has_concurrency() ? file.concurrency() : kDefaultConcurrency;
  return loaded;
}

}  // namespace conclave::experiment
