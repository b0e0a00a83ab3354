// SPDX-License-Identifier: Apache-2.0
// Written mathematics as nodes in one array, children before parents, so that evaluation is a loop and not a recursion.
#pragma once

#include <gmpxx.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave::grade::math {

// Limits. An answer beyond one of them is compared as text only.
inline constexpr size_t kAnswerBytesMax = 4096;
inline constexpr size_t kTokensMax = 2048;
inline constexpr size_t kDigitsMax = 256;         // of one number
inline constexpr size_t kNodesMax = 8192;         // of all readings of one comparison together
inline constexpr int kNestingMax = 64;            // brackets, fractions, powers
inline constexpr size_t kExactBitsMax = 1 << 17;  // of a number computed exactly: 2004! has 19,000

enum class Kind : uint8_t {
  // Scalars.
  kNumber,     // number; name: its digits, where they are a whole number's
  kSymbol,     // name: a letter or a name with its subscript; pi, e, i and inf are constants
  kAdd,        // n terms
  kMul,        // n factors
  kNegate,     // 1
  kInverse,    // 1: 1/x
  kPower,      // base, exponent
  kRoot,       // radicand, degree
  kFactorial,  // 1
  kAbs,        // 1
  kFloor,      // 1
  kCeiling,    // 1
  kFunction,   // name of an elementary function: sin, ln, log (one argument, or argument and base)
  kBinomial,   // n, k
  kOpaque,     // name, any arguments: a function nobody defined, a sum; equal where name and arguments are
  kPlusMinus,  // 1: name "+-" or "-+"
  kDegree,     // 1: x degrees
  kPercent,    // 1
  kUnit,       // 1, name: the unit as written
  kBase,       // name: digits; 1: the base they are written in
  kRatio,      // 2: a : b
  // Structures.
  kText,      // name: words
  kList,      // n, in any order, without brackets: 1, 2 and 3
  kGroup,     // n statements that hold together: p = 5, q = 2
  kTuple,     // n, in order, in parentheses; two of them may be an open interval
  kSet,       // n, in any order, in braces
  kInterval,  // 2 ends; name: "[]", "[)", "(]"
  kUnion,     // n; name: "U", or "I" for intersections, "\\" for differences
  kMatrix,    // name: columns in decimal; row by row
  kRelation,  // n sides; name: n-1 signs, each one of  = < > L(<=) G(>=) N(!=) ~(about) E(in)
};

struct Node {
  Kind kind;
  std::string name;
  std::vector<int32_t> args;
  int32_t number = -1;  // of kNumber: index of its value
};

// Grows only. Not thread-safe.
class Arena {
 public:
  // The new node's index, or -1 when the arena is full or an argument is -1: a failure passes upwards by itself.
  int32_t Add(Kind kind, std::vector<int32_t> args, std::string name = {}) {
    if (nodes_.size() >= kNodesMax) return -1;
    for (int32_t arg : args) {
      if (arg < 0) return -1;
    }
    nodes_.push_back({kind, std::move(name), std::move(args), -1});
    return static_cast<int32_t>(nodes_.size()) - 1;
  }
  int32_t AddNumber(mpq_class value) {
    const int32_t node = Add(Kind::kNumber, {});
    return node < 0 ? -1 : SetNumber(node, std::move(value));
  }
  int32_t SetNumber(int32_t node, mpq_class value) {
    nodes_[static_cast<size_t>(node)].number = static_cast<int32_t>(numbers_.size());
    numbers_.push_back(std::move(value));
    return node;
  }
  const Node& operator[](int32_t node) const { return nodes_[static_cast<size_t>(node)]; }
  const mpq_class& Number(const Node& node) const { return numbers_[static_cast<size_t>(node.number)]; }
  int32_t size() const { return static_cast<int32_t>(nodes_.size()); }

 private:
  std::vector<Node> nodes_;
  std::vector<mpq_class> numbers_;
};

inline bool IsCollection(Kind kind) { return kind == Kind::kList || kind == Kind::kSet; }
inline bool IsStructure(Kind kind) { return kind >= Kind::kText; }

}  // namespace conclave::grade::math
