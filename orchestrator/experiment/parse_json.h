// SPDX-License-Identifier: Apache-2.0
// JSON of files that anybody may have written.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "common/json_depth.h"

namespace conclave::experiment {

// The document, or a discarded value where the text is no JSON or nests deeper than kJsonDepthMax.
inline nlohmann::ordered_json ParseJson(std::string_view text) {
  using Json = nlohmann::ordered_json;
  if (PlaceBeyondDepth(text).has_value()) return Json(Json::value_t::discarded);
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace conclave::experiment
