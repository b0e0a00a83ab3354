// SPDX-License-Identifier: Apache-2.0
// Any bytes as a graph, and as every graph that it calls: either errors, or a graph that can be stored, read back and
// drawn.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/check.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/draw.h"
#include "protos/textproto.h"

namespace {

const conclave::orchestrator::RoleLibrary& Roles() {
  static const auto* const roles = [] {
    auto* library = new conclave::orchestrator::RoleLibrary;
    for (const auto& [name, contract] : {std::pair("say", "answer {}"),
                                         {"note", "text {}"},
                                         {"check", "verdict { accept: \"yes\" reject: \"no\" }"}}) {
      const std::string text = std::string("name: \"") + name + "\" task: \"{{ question }}\" " + contract;
      CONCLAVE_CHECK(library->AddText(text, std::string(name) + ".textproto").empty());
    }
    return library;
  }();
  return *roles;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace orchestrator = conclave::orchestrator;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  conclave::deliberation::v1::Graph called;
  conclave::ParseTextproto(text, &called);
  const orchestrator::FindGraph library = [&](const std::string& name) {
    called.set_name(name);
    return absl::StatusOr<conclave::deliberation::v1::Graph>(called);
  };
  const auto result = orchestrator::CompileGraphText(text, "fuzz.textproto", Roles(), library);
  CONCLAVE_CHECK((result.graph == nullptr) != result.errors.empty());
  if (result.graph != nullptr) {
    const auto again = orchestrator::CompileBundle(result.graph->canonical());
    CONCLAVE_CHECK(again.ok() && (*again)->revision() == result.graph->revision());
    orchestrator::DrawDot(*result.graph);
    orchestrator::DrawMermaid(*result.graph);
    orchestrator::DrawSvg(*result.graph);
  }
  orchestrator::RoleLibrary roles;
  roles.AddText(text, "fuzz.textproto");
  return 0;
}
