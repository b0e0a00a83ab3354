// SPDX-License-Identifier: Apache-2.0
// Comparison of two parsed answers, part by part.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "orchestrator/experiment/grade/math/evaluate.h"
#include "orchestrator/experiment/grade/math/expression.h"

namespace conclave::grade::math {

class Comparison {
 public:
  explicit Comparison(Arena& arena) : arena_(arena), evaluator_(arena) {}

  // Whether the answer says what the gold says. Both are simplified nodes.
  bool Same(int32_t answer, int32_t gold);
  // See NormalForm of equivalence.h.
  std::string Key(int32_t node);
  bool exactly() const { return exactly_; }

 private:
  // A scalar without what surrounds it.
  struct Bare {
    int32_t value;
    std::string unit;
    bool degree = false;
    bool percent = false;
  };
  Bare Strip(int32_t node) const;

  bool SameScalar(int32_t a, int32_t b);
  bool SameValue(int32_t a, int32_t b);
  bool Rounds(int32_t decimal, int32_t other);
  bool SameRelation(int32_t a, int32_t b);
  bool SameChain(const Node& a, const Node& b);
  bool SameInterval(int32_t a, int32_t b);
  bool Proportional(int32_t a, int32_t b);
  bool SameStructure(int32_t a, int32_t b);
  std::vector<int32_t> Distinct(const std::vector<int32_t>& items);
  bool InAnyOrder(const std::vector<int32_t>& a, const std::vector<int32_t>& b);
  bool InOrder(const std::vector<int32_t>& a, const std::vector<int32_t>& b);
  std::string ScalarKey(int32_t node);
  std::string Joined(std::vector<int32_t> items, bool sort);

  Arena& arena_;
  Evaluator evaluator_;
  int comparisons_ = 0;
  int depth_ = 0;
  bool exactly_ = true;
};

// Words without letter case, articles and punctuation.
std::string PlainWords(std::string_view text);

}  // namespace conclave::grade::math
