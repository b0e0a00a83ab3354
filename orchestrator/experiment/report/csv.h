// SPDX-License-Identifier: Apache-2.0
// A summary as tables that a spreadsheet reads: RFC 4180, one header line, missing values empty.
#pragma once

#include <string>

#include "orchestrator/experiment/report/html.h"

namespace conclave::report {

std::string ArmsCsv(const Json& summary);
std::string ContrastsCsv(const Json& summary);
std::string CurvesCsv(const Json& summary);

}  // namespace conclave::report
