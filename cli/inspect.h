// SPDX-License-Identifier: Apache-2.0
// `conclave inspect ...`: one function per call, grouped by what they look at.
#pragma once

#include "cli/command.h"

namespace conclave::cli {

void AddInspectModel(CLI::App* inspect, Chosen* chosen);  // model
void AddInspectText(CLI::App* inspect, Chosen* chosen);   // tokenize, detokenize
void AddInspectTemplate(CLI::App* inspect, Chosen* chosen);
void AddInspectForward(CLI::App* inspect, Chosen* chosen);  // logits, greedy, score, perplexity, routing
void AddInspectGrade(CLI::App* inspect, Chosen* chosen);    // grade

}  // namespace conclave::cli
