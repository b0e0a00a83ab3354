// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/json.h"

#include "common/status.h"

namespace conclave::http {

absl::StatusOr<Json> ParseJson(std::string_view text, int32_t depth_max) {
  int32_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > depth_max) {
        return InvalidArgument("the JSON nests more than {} arrays and objects, at byte {}", depth_max, i);
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
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
