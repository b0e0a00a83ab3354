// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/structure.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "orchestrator/experiment/grade/math/parser.h"

namespace conclave::grade::math {
namespace {

constexpr size_t kCellsMax = 256;  // of a matrix that is multiplied

// A copy of what is below root with some nodes replaced. Children come first, so one pass upwards does it.
template <typename Replace>
int32_t Rewrite(Arena& arena, int32_t root, Replace replace) {
  std::vector<char> below(static_cast<size_t>(root) + 1, 0);
  below.back() = 1;
  for (int32_t node = root; node >= 0; --node) {
    if (below[static_cast<size_t>(node)] == 0) continue;
    for (int32_t arg : arena[node].args) below[static_cast<size_t>(arg)] = 1;
  }
  std::unordered_map<int32_t, int32_t> copy;
  for (int32_t node = 0; node <= root; ++node) {
    if (below[static_cast<size_t>(node)] == 0) continue;
    std::vector<int32_t> args = arena[node].args;
    bool changed = false;
    for (int32_t& arg : args) {
      const auto found = copy.find(arg);
      if (found == copy.end()) continue;
      arg = found->second;
      changed = true;
    }
    const int32_t replaced = replace(node, args);
    if (replaced != node) {
      copy[node] = replaced;
    } else if (changed) {
      copy[node] = arena.Add(arena[node].kind, std::move(args), std::string(arena[node].name));
    }
  }
  const auto found = copy.find(root);
  return found == copy.end() ? root : found->second;
}

bool HasPlusMinus(const Arena& arena, int32_t root) {
  std::vector<int32_t> work = {root};
  for (size_t k = 0; k < work.size() && work.size() < kNodesMax; ++k) {
    const Node& node = arena[work[k]];
    if (node.kind == Kind::kPlusMinus) return true;
    work.insert(work.end(), node.args.begin(), node.args.end());
  }
  return false;
}

int32_t OneSign(Arena& arena, int32_t root, bool upper) {
  return Rewrite(arena, root, [&](int32_t node, const std::vector<int32_t>& args) {
    if (arena[node].kind != Kind::kPlusMinus) return node;
    return (arena[node].name == "+-") == upper ? args[0] : arena.Add(Kind::kNegate, {args[0]});
  });
}

size_t Columns(const Node& matrix) { return static_cast<size_t>(std::stoi(matrix.name)); }

int32_t MatrixProduct(Arena& arena, int32_t left, int32_t right) {
  const bool left_matrix = arena[left].kind == Kind::kMatrix;
  const bool right_matrix = arena[right].kind == Kind::kMatrix;
  if (!left_matrix && !right_matrix) return arena.Add(Kind::kMul, {left, right});
  std::vector<int32_t> cells;
  if (left_matrix != right_matrix) {  // a scalar times a matrix
    const int32_t scalar = left_matrix ? right : left;
    const Node matrix = arena[left_matrix ? left : right];
    for (int32_t cell : matrix.args) cells.push_back(arena.Add(Kind::kMul, {scalar, cell}));
    return arena.Add(Kind::kMatrix, std::move(cells), matrix.name);
  }
  const Node a = arena[left];
  const Node b = arena[right];
  const size_t inner = Columns(a);
  const size_t columns = Columns(b);
  if (a.args.size() > kCellsMax || b.args.size() > kCellsMax || inner * columns != b.args.size()) return -1;
  for (size_t i = 0; i < a.args.size() / inner; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      std::vector<int32_t> terms;
      for (size_t k = 0; k < inner; ++k) {
        terms.push_back(arena.Add(Kind::kMul, {a.args[i * inner + k], b.args[k * columns + j]}));
      }
      cells.push_back(arena.Add(Kind::kAdd, std::move(terms)));
    }
  }
  return arena.Add(Kind::kMatrix, std::move(cells), b.name);
}

int32_t MatrixSum(Arena& arena, const std::vector<int32_t>& terms) {
  int32_t sum = terms[0];
  for (size_t k = 1; k < terms.size(); ++k) {
    if (sum < 0) return -1;
    const Node a = arena[sum];
    const Node b = arena[terms[k]];
    if (a.kind != Kind::kMatrix || b.kind != Kind::kMatrix || a.name != b.name || a.args.size() != b.args.size()) {
      return -1;
    }
    std::vector<int32_t> cells;
    for (size_t c = 0; c < a.args.size(); ++c) cells.push_back(arena.Add(Kind::kAdd, {a.args[c], b.args[c]}));
    sum = arena.Add(Kind::kMatrix, std::move(cells), a.name);
  }
  return sum;
}

// Matrices within sums and products become one matrix.
int32_t Multiplied(Arena& arena, int32_t root) {
  bool failed = false;
  const int32_t result = Rewrite(arena, root, [&](int32_t node, const std::vector<int32_t>& args) {
    const Kind kind = arena[node].kind;
    bool matrices = false;
    for (int32_t arg : args) {
      if (arg < 0) failed = true;
      if (failed) return node;
      matrices = matrices || arena[arg].kind == Kind::kMatrix;
    }
    if (!matrices) return node;
    int32_t made = node;
    if (kind == Kind::kMul) {
      made = args[0];
      for (size_t k = 1; k < args.size() && made >= 0; ++k) made = MatrixProduct(arena, made, args[k]);
    } else if (kind == Kind::kAdd) {
      made = MatrixSum(arena, args);
    } else if (kind == Kind::kNegate) {
      made = MatrixProduct(arena, arena.AddNumber(-1), args[0]);
    }
    failed = failed || made < 0;
    return made < 0 ? node : made;
  });
  return failed ? -1 : result;
}

// One item of a list: itself, or both of its signs.
void AddItem(Arena& arena, int32_t item, std::vector<int32_t>& out) {
  const Kind kind = arena[item].kind;
  if (kind == Kind::kList) {
    const std::vector<int32_t> inner = arena[item].args;
    out.insert(out.end(), inner.begin(), inner.end());
  } else if (HasPlusMinus(arena, item)) {
    out.push_back(OneSign(arena, item, true));
    out.push_back(OneSign(arena, item, false));
  } else {
    out.push_back(item);
  }
}

int32_t Expanded(Arena& arena, const Node& collection) {
  std::vector<int32_t> items;
  for (int32_t item : collection.args) AddItem(arena, item, items);
  return arena.Add(collection.kind, std::move(items));
}

// Bounds gathered from the parts of a chain.
struct Bounds {
  int32_t low = -1;
  int32_t high = -1;
  bool low_open = true;
  bool high_open = true;
  bool ok = true;

  // x sign bound, sign one of < > L G.
  void Add(char sign, int32_t bound) {
    const bool below = sign == '<' || sign == 'L';
    const bool open = sign == '<' || sign == '>';
    int32_t& end = below ? high : low;
    if (end >= 0 || bound < 0) ok = false;  // bounded twice from one side
    end = bound;
    (below ? high_open : low_open) = open;
  }
};

char Flipped(char sign) {
  switch (sign) {
    case '<':
      return '>';
    case '>':
      return '<';
    case 'L':
      return 'G';
    default:
      return 'L';
  }
}

int32_t MakeInterval(Arena& arena, int32_t low, int32_t high, bool low_open, bool high_open) {
  const auto infinity = [&] { return arena.Add(Kind::kSymbol, {}, "inf"); };
  if (low < 0) low = arena.Add(Kind::kNegate, {infinity()});
  if (high < 0) high = infinity();
  return arena.Add(Kind::kInterval, {low, high}, std::string{low_open ? '(' : '[', high_open ? ')' : ']'});
}

// |x| within bounds.
int32_t AbsoluteInterval(Arena& arena, const Bounds& b) {
  const auto negative = [&](int32_t node) { return arena.Add(Kind::kNegate, {node}); };
  if (b.low < 0) return MakeInterval(arena, negative(b.high), b.high, b.high_open, b.high_open);
  const int32_t left =
      MakeInterval(arena, b.high < 0 ? -1 : negative(b.high), negative(b.low), b.high_open, b.low_open);
  return arena.Add(Kind::kUnion, {left, MakeInterval(arena, b.low, b.high, b.low_open, b.high_open)}, "U");
}

// The one variable of a relation, or "".
std::string OnlyVariable(const Arena& arena, int32_t root) {
  std::string name;
  std::vector<int32_t> work = {root};
  for (size_t k = 0; k < work.size() && work.size() < kNodesMax; ++k) {
    const Node& node = arena[work[k]];
    work.insert(work.end(), node.args.begin(), node.args.end());
    if (node.kind != Kind::kSymbol || !IsName(arena, work[k])) continue;
    if (!name.empty() && name != node.name) return "";
    name = node.name;
  }
  return name;
}

// (left - right) sign 0, linear in the variable, solved for it.
bool AddLinear(Arena& arena, Evaluator& evaluator, int32_t left, int32_t right, char sign, const std::string& name,
               Bounds& bounds) {
  const int32_t difference = arena.Add(Kind::kAdd, {left, arena.Add(Kind::kNegate, {right})});
  if (difference < 0) return false;
  const auto at = [&](int value) {
    const int32_t number = arena.AddNumber(value);
    return Rewrite(arena, difference, [&](int32_t node, const std::vector<int32_t>&) {
      return arena[node].kind == Kind::kSymbol && arena[node].name == name ? number : node;
    });
  };
  const int32_t constant = at(0);
  const auto minus_constant = [&](int32_t node) {
    return arena.Add(Kind::kAdd, {node, arena.Add(Kind::kNegate, {constant})});
  };
  const int32_t slope = minus_constant(at(1));
  const int32_t twice = minus_constant(at(2));
  const int32_t doubled = arena.Add(Kind::kMul, {arena.AddNumber(2), slope});
  if (slope < 0 || twice < 0 || doubled < 0) return false;
  if (!SameSample(evaluator.Samples(twice)[0], evaluator.Samples(doubled)[0])) return false;
  const int direction = SignOf(evaluator, slope);
  if (direction == 0) return false;
  const int32_t root =
      arena.Add(Kind::kMul, {arena.Add(Kind::kNegate, {constant}), arena.Add(Kind::kInverse, {slope})});
  bounds.Add(direction > 0 ? sign : Flipped(sign), root);
  return bounds.ok;
}

}  // namespace

int32_t Simplify(Arena& arena, int32_t node) {
  if (node < 0) return -1;
  node = Multiplied(arena, node);
  if (node < 0) return -1;
  const Node whole = arena[node];
  if (IsCollection(whole.kind)) return Expanded(arena, whole);
  if (whole.kind == Kind::kRelation && IsCollection(arena[whole.args.back()].kind)) {  // x = {1 +- 2}
    std::vector<int32_t> sides = whole.args;
    sides.back() = Expanded(arena, Node(arena[sides.back()]));
    node = arena.Add(whole.kind, std::move(sides), whole.name);
    if (node < 0) return -1;
  }
  if (HasPlusMinus(arena, node)) {
    return arena.Add(Kind::kList, {OneSign(arena, node, true), OneSign(arena, node, false)}, "+-");
  }
  return node;
}

int32_t ValueOf(const Arena& arena, Evaluator& evaluator, int32_t relation) {
  const Node& node = arena[relation];
  if (node.kind != Kind::kRelation) return -1;
  std::string_view signs = node.name;
  size_t sides = node.args.size();
  const size_t about = signs.find('~');
  if (about != std::string_view::npos) {
    // "1/3 ~ 0.33" is 1/3, "x ~ 11" is 11.
    if (about == 0 && IsName(arena, node.args[0])) return node.args[1];
    sides = about + 1;
    signs = signs.substr(0, about);
  }
  if (sides == 1) return node.args[0];
  if (signs == "E") return node.args[1];
  if (signs.find_first_not_of('=') != std::string_view::npos) return -1;
  const int32_t last = node.args[sides - 1];
  if (sides > 2 || IsName(arena, node.args[0])) return last;
  if (IsName(arena, last)) return node.args[0];
  return evaluator.IsConstant(node.args[0]) ? last : -1;
}

int32_t IntervalOf(Arena& arena, Evaluator& evaluator, int32_t relation, std::string* name) {
  const Node node = arena[relation];
  if (node.kind != Kind::kRelation || node.name.find_first_not_of("<>LG") != std::string::npos) return -1;
  Bounds bounds;
  *name = OnlyVariable(arena, relation);
  bool absolute = false;
  for (size_t k = 0; k + 1 < node.args.size(); ++k) {
    int32_t left = node.args[k];
    int32_t right = node.args[k + 1];
    char sign = node.name[k];
    if (evaluator.IsConstant(left)) {
      std::swap(left, right);
      sign = Flipped(sign);
    }
    if (evaluator.IsConstant(right) && IsName(arena, left)) {
      absolute = arena[left].kind == Kind::kAbs;
      if (name->empty()) *name = "of several";
      bounds.Add(sign, right);
    } else if (name->empty() || absolute || !AddLinear(arena, evaluator, left, right, sign, *name, bounds)) {
      return -1;
    }
  }
  if (!bounds.ok) return -1;
  if (absolute) return AbsoluteInterval(arena, bounds);
  return MakeInterval(arena, bounds.low, bounds.high, bounds.low_open, bounds.high_open);
}

int Infinity(const Arena& arena, int32_t node) {
  const Node* n = &arena[node];
  int sign = 1;
  if (n->kind == Kind::kNegate) {
    sign = -1;
    n = &arena[n->args[0]];
  }
  return n->kind == Kind::kSymbol && n->name == "inf" ? sign : 0;
}

int SignOf(Evaluator& evaluator, int32_t node) {
  const std::vector<Sample>& samples = evaluator.Samples(node);
  if (samples.size() != 1) return 0;
  if (samples[0].state == Sample::State::kExact) return sgn(samples[0].exact);
  if (samples[0].state == Sample::State::kUndefined || !samples[0].numeric.IsReal()) return 0;
  return mpfr_sgn(samples[0].numeric.real());
}

}  // namespace conclave::grade::math
