// SPDX-License-Identifier: Apache-2.0
// Solves the questions of the step families from their text alone, by other means than the families themselves.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace conclave::benchmark {

// By family.
const std::map<std::string, int64_t (*)(const std::string& question)>& Solvers();

}  // namespace conclave::benchmark
