// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/steps/families.h"

#include <algorithm>
#include <array>

namespace conclave::benchmark {
namespace {

constexpr std::array<Family, 19> kFamilies = {{{"addition", MakeAddition},
                                               {"base", MakeBase},
                                               {"boolean", MakeBoolean},
                                               {"brackets", MakeBrackets},
                                               {"chain", MakeChain},
                                               {"counting", MakeCounting},
                                               {"dates", MakeDates},
                                               {"equation", MakeEquation},
                                               {"graph", MakeGraph},
                                               {"liars", MakeLiars},
                                               {"lists", MakeLists},
                                               {"maximum", MakeMaximum},
                                               {"modular", MakeModular},
                                               {"multiple", MakeMultiple},
                                               {"multiply", MakeMultiply},
                                               {"program", MakeProgram},
                                               {"sets", MakeSets},
                                               {"sorting", MakeSorting},
                                               {"subtraction", MakeSubtraction}}};

}  // namespace

std::span<const Family> Families() { return kFamilies; }

const Family* FindFamily(std::string_view name) {
  const auto at = std::find_if(kFamilies.begin(), kFamilies.end(), [&](const Family& f) { return f.name == name; });
  return at == kFamilies.end() ? nullptr : &*at;
}

}  // namespace conclave::benchmark
