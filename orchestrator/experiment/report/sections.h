// SPDX-License-Identifier: Apache-2.0
// The page's sections: HTML each, "" where the data have nothing for it. Letters are those of specs/evaluation.md §6.
#pragma once

#include <string>

#include "orchestrator/experiment/report/report.h"

namespace conclave::report {

// tables.cc
std::string ArmTable(const ReportInput& input);       // each arm's accuracy and outcomes
std::string ContrastTable(const ReportInput& input);  // T1
std::string PowerTable(const ReportInput& input);     // T2
std::string AblationTable(const ReportInput& input);  // T3
std::string MatchedTable(const ReportInput& input);   // beside F1
// ledgers.cc
std::string CostTable(const ReportInput& input);      // T4
std::string AuditTable(const ReportInput& input);     // T5
std::string ClaimTable(const ReportInput& input);     // T7
std::string ManifestTable(const ReportInput& input);  // T9
// figures.cc
std::string ComputeFigure(const ReportInput& input);  // F1
std::string ParetoFigure(const ReportInput& input);   // F2
std::string ForestFigure(const ReportInput& input);   // F3
std::string VoteFigure(const ReportInput& input);     // F4
std::string GroupFigure(const ReportInput& input);    // F5
std::string FlowFigure(const ReportInput& input);     // F6

}  // namespace conclave::report
