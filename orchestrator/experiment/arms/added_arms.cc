// SPDX-License-Identifier: Apache-2.0
// Baselines as part of an experiment, and as files.
#include <fmt/format.h>
#include <google/protobuf/text_format.h>

#include <filesystem>
#include <set>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/arms/baselines.h"

namespace conclave::experiment {
namespace {

absl::Status WriteText(const std::string& path, const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(message, &text);
  return WriteFileAtomically(path, text);
}

}  // namespace

void AddTo(const Baselines& baselines, const std::string& graphs, LoadedExperiment* experiment) {
  auto& file = experiment->file;
  std::set<std::string> there;
  for (const auto& arm : file.arm()) there.insert(arm.name());
  for (const GeneratedArm& generated : baselines.arms) {
    if (there.contains(generated.arm.name())) continue;
    auto* arm = file.add_arm();
    *arm = generated.arm;
    if (generated.graph != nullptr) arm->set_graph(fmt::format("{0}/{1}/{1}.textproto", graphs, arm->graph()));
  }
  file.clear_baseline();
  for (const auto& record : baselines.records) *file.add_baseline() = record;
  FillArms({}, experiment);
}

absl::Status WriteGraphs(const Baselines& baselines, const std::string& graphs) {
  for (const GeneratedArm& generated : baselines.arms) {
    if (generated.graph == nullptr) continue;
    const std::string folder = fmt::format("{}/{}", graphs, generated.arm.graph());
    std::error_code error;
    std::filesystem::create_directories(folder + "/roles", error);
    if (error) return Internal("{}: cannot be created: {}", folder, error.message());
    RETURN_IF_ERROR(WriteText(fmt::format("{}/{}.textproto", folder, generated.arm.graph()), generated.graph->proto()));
    for (const auto& role : generated.graph->bundle().role()) {
      RETURN_IF_ERROR(WriteText(fmt::format("{}/roles/{}.textproto", folder, role.name()), role));
    }
  }
  return absl::OkStatus();
}

}  // namespace conclave::experiment
