// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/json.h"

#include "common/status.h"

namespace conclave::http {

absl::StatusOr<Json> ParseJson(std::string_view text, size_t depth_max) {
  if (const auto place = PlaceBeyondDepth(text, depth_max); place.has_value()) {
    return InvalidArgument("the JSON nests more than {} arrays and objects, at byte {}", depth_max, *place);
  }
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return InvalidArgument("this is not JSON, at byte {}: {}", error.byte,
                           std::string_view(error.what()).substr(0, 200));
  } catch (const Json::exception& error) {  // a number that no double holds
    return InvalidArgument("this JSON cannot be used: {}", std::string_view(error.what()).substr(0, 200));
  }
}

std::string WriteJson(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace conclave::http
