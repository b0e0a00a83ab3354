// SPDX-License-Identifier: Apache-2.0
// Where in a response its final answer stands: after the reasoning, in an "answer" field, in \boxed{}, behind
// "the answer is". Everything here is a view of the text given, found in one bounded pass.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace conclave::grade {

// Part of a text: bytes [begin, end).
struct Region {
  size_t begin = 0;
  size_t end = 0;
};

inline std::string_view Slice(std::string_view text, Region region) {
  return text.substr(region.begin, region.end - region.begin);
}

// The region without white space, quotes, Markdown emphasis (**42**, `42`) and maths delimiters at its edges, and
// without final full stops.
Region Trim(std::string_view text, Region region);

// What follows the last </think>, or all of it. A <think> never closed leaves nothing: the answer was not reached.
Region FinalRegion(std::string_view text);

// Behind the last "####" of the region, to the end of its line.
std::optional<Region> AfterHashes(std::string_view text, Region in);

// The value of the last `"answer":` field. The JSON around it need not parse: models break lines inside strings, wrap
// objects in fences, forget quotes. A string value is returned without its quotes, still escaped; null gives an empty
// region. A string cut off by the end of the text gives nullopt.
std::optional<Region> AnswerField(std::string_view text, Region in);

// Whether the region sets out to be a JSON object (perhaps fenced), whose unmarked parts are reasoning, not answer.
bool OpensAsObject(std::string_view text, Region in);

// The content of the last balanced \boxed{..} or \fbox{..}. Nesting is counted, not recursed into.
std::optional<Region> LastBoxed(std::string_view text, Region in);

// Behind the last "answer is", "answer:", "answer =" (any case, Markdown allowed around the colon), to the end of its
// sentence or line; when nothing stands there, the next line that is not blank.
std::optional<Region> AfterAnswerMarker(std::string_view text, Region in);

}  // namespace conclave::grade
