// SPDX-License-Identifier: Apache-2.0
// Where a mathematical answer stands in a response: its boxes, the formulas of a sentence, a last number or letter.
// Looks at bounded stretches from the end, so that a megabyte costs no more than reading it once.
#pragma once

#include <optional>
#include <string_view>

#include "orchestrator/experiment/grade/answer_region.h"

namespace conclave::grade {

// The content of the last \boxed{..} or \fbox{..}; several that are parted by at most three words ("\boxed{1} and
// \boxed{2}") are one answer, then from the first \boxed to the end of the last. One that never closes ends with its
// line.
struct Boxes {
  Region region;
  bool single = true;  // one box, and it closes
};
std::optional<Boxes> LastBoxes(std::string_view text, Region in);

// The formulas that a statement ends with: $..$, $$..$$, \(..\), \[..\], without their outer delimiters. Several that
// "and", "or" or a comma join are one answer. An inline formula does not run over line breaks.
std::optional<Region> LastFormulas(std::string_view text, Region in);

// Whether the region ends in an inline formula that was broken over lines, which nobody renders.
bool EndsInBrokenFormula(std::string_view text, Region in);

// The last number at or behind `from`; the one the region begins with.
std::optional<Region> LastNumber(std::string_view text, Region in);
std::optional<Region> LeadingNumber(std::string_view text, Region in);

// The last capital letter that stands alone and is not denied ("not A"), as the label of an option.
std::optional<Region> LastLabel(std::string_view text, Region in);
// A label the region begins with: "D, it doesn't ..".
std::optional<Region> LeadingLabel(std::string_view text, Region in);

// Whether it holds three or more words: a sentence, not a formula.
bool IsProse(std::string_view text);

}  // namespace conclave::grade
