// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/comparison.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "orchestrator/experiment/grade/math/equivalence.h"
#include "orchestrator/experiment/grade/math/parser.h"
#include "orchestrator/experiment/grade/math/structure.h"
#include "orchestrator/experiment/grade/math/vocabulary.h"

namespace conclave::grade::math {
namespace {

Sample Times(const Sample& a, const Sample& b) {
  Sample out;
  if (a.state == Sample::State::kUndefined || b.state == Sample::State::kUndefined) return out;
  if (a.state == Sample::State::kExact && b.state == Sample::State::kExact) {
    out.state = Sample::State::kExact;
    out.exact = a.exact * b.exact;
    return out;
  }
  const auto numeric = [](const Sample& s) {
    return s.state == Sample::State::kExact ? Complex(s.exact.get_mpq_t()) : s.numeric;
  };
  out.state = Sample::State::kNumeric;
  mpc_mul(out.numeric.get(), numeric(a).get(), numeric(b).get(), MPC_RNDNN);
  out.scale = std::max({a.scale + b.scale, out.numeric.Exponent(), 0L});
  return out;
}

bool IsZeroSample(const Sample& sample) {
  Sample zero;
  zero.state = Sample::State::kExact;
  return SameSample(sample, zero);
}

bool DifferentUnits(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return false;
  const auto unit_a = UnitName(a);
  const auto unit_b = UnitName(b);
  return unit_a && unit_b && *unit_a != *unit_b;
}

}  // namespace

std::string PlainWords(std::string_view text) {
  std::string out;
  for (char c : text) {
    const bool upper = c >= 'A' && c <= 'Z';
    const bool keep =
        upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
    if (keep) {
      out += upper ? static_cast<char>(c - 'A' + 'a') : c;
    } else if (!out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  for (std::string_view article : {"the ", "a ", "an "}) {
    if (out.starts_with(article)) return out.substr(article.size());
  }
  return out;
}

Comparison::Bare Comparison::Strip(int32_t node) const {
  Bare bare{node, "", false, false};
  for (int layers = 0; layers < 4; ++layers) {
    const Node& n = arena_[bare.value];
    if (n.kind == Kind::kUnit) {
      bare.unit = n.name;
    } else if (n.kind == Kind::kDegree) {
      bare.degree = true;
    } else if (n.kind == Kind::kPercent) {
      bare.percent = true;
    } else {
      break;
    }
    bare.value = n.args[0];
  }
  return bare;
}

// Whether a decimal of enough digits is the other number, rounded or cut off.
bool Comparison::Rounds(int32_t decimal, int32_t other) {
  const Node* literal = &arena_[decimal];
  if (literal->kind == Kind::kNegate) literal = &arena_[literal->args[0]];
  if (literal->kind != Kind::kNumber || !literal->name.empty() || arena_[other].kind == Kind::kNumber) return false;
  const std::optional<mpq_class> value = evaluator_.Exact(decimal);
  const std::vector<Sample>& samples = evaluator_.Samples(other);
  if (!value || samples.size() != 1 || samples[0].state == Sample::State::kUndefined) return false;
  // The digits that were written: value * 10^n is whole.
  mpq_class scaled = *value;
  mpq_class unit = 1;
  for (int n = 0; scaled.get_den() != 1; ++n) {
    if (n > 64) return false;
    scaled *= 10;
    unit /= 10;
  }
  const std::string digits = mpz_class(abs(scaled.get_num())).get_str();
  if (unit == 1 || digits.size() < kApproximateDigitsMin) return false;
  mpq_class exact;
  if (samples[0].state == Sample::State::kExact) {
    exact = samples[0].exact;
  } else if (samples[0].numeric.IsReal() && samples[0].numeric.Exponent() > -200) {
    mpfr_get_q(exact.get_mpq_t(), samples[0].numeric.real());
  } else {
    return false;
  }
  if (abs(exact - *value) >= unit) return false;
  exactly_ = false;
  return true;
}

bool Comparison::SameValue(int32_t a, int32_t b) {
  const int infinity = Infinity(arena_, a);
  if (infinity != 0 || Infinity(arena_, b) != 0) return infinity == Infinity(arena_, b);
  const std::vector<Sample>& of_a = evaluator_.Samples(a);
  const std::vector<Sample>& of_b = evaluator_.Samples(b);
  const size_t points = std::max(of_a.size(), of_b.size());
  size_t agree = 0;
  for (size_t k = 0; k < points; ++k) {
    const Sample& at_a = of_a[of_a.size() == 1 ? 0 : k];
    const Sample& at_b = of_b[of_b.size() == 1 ? 0 : k];
    if (at_a.state == Sample::State::kUndefined || at_b.state == Sample::State::kUndefined) continue;
    if (!SameSample(at_a, at_b)) return false;
    ++agree;
  }
  return agree >= std::min<size_t>(points, kPositivePoints);
}

bool Comparison::SameScalar(int32_t a, int32_t b) {
  const Bare bare_a = Strip(a);
  const Bare bare_b = Strip(b);
  if (IsStructure(arena_[bare_a.value].kind) || IsStructure(arena_[bare_b.value].kind)) {
    return (bare_a.value != a || bare_b.value != b) && Same(bare_a.value, bare_b.value);
  }
  if (DifferentUnits(bare_a.unit, bare_b.unit)) return false;
  if (bare_a.percent != bare_b.percent) {
    // 28% is answered by 28 and by 0.28.
    const int32_t percent = bare_a.percent ? bare_a.value : bare_b.value;
    const int32_t plain = bare_a.percent ? bare_b.value : bare_a.value;
    const int32_t fraction = arena_.Add(Kind::kPercent, {percent});
    return SameValue(percent, plain) || (fraction >= 0 && SameValue(fraction, plain));
  }
  if (bare_a.degree != bare_b.degree && SameValue(a, b)) return true;  // 90 degrees and pi/2
  return SameValue(bare_a.value, bare_b.value) || Rounds(bare_a.value, bare_b.value) ||
         Rounds(bare_b.value, bare_a.value);
}

// Whether left - right of one is a constant multiple of the other's, for inequalities a positive one.
bool Comparison::Proportional(int32_t a, int32_t b) {
  const Node rel_a = arena_[a];
  const Node rel_b = arena_[b];
  if (rel_a.args.size() != 2 || rel_b.args.size() != 2) return false;
  for (int32_t side : {rel_a.args[0], rel_a.args[1], rel_b.args[0], rel_b.args[1]}) {
    if (IsStructure(arena_[side].kind)) return false;
  }
  const auto difference = [&](const Node& rel, bool flip) {
    return arena_.Add(Kind::kAdd, {rel.args[flip ? 1 : 0], arena_.Add(Kind::kNegate, {rel.args[flip ? 0 : 1]})});
  };
  const auto flips = [](const std::string& sign) { return sign == ">" || sign == "G"; };
  const auto strict = [](const std::string& sign) { return sign == "<" || sign == ">"; };
  const bool equation = rel_a.name == "=" && rel_b.name == "=";
  const bool orders = (rel_a.name == "<" || rel_a.name == ">" || rel_a.name == "L" || rel_a.name == "G") &&
                      (rel_b.name == "<" || rel_b.name == ">" || rel_b.name == "L" || rel_b.name == "G");
  if (!equation && (!orders || strict(rel_a.name) != strict(rel_b.name))) return false;
  const int32_t left = difference(rel_a, flips(rel_a.name));
  const int32_t right = difference(rel_b, flips(rel_b.name));
  if (left < 0 || right < 0) return false;
  const std::vector<Sample>& of_a = evaluator_.Samples(left);
  const std::vector<Sample>& of_b = evaluator_.Samples(right);
  if (of_a.size() != of_b.size() || of_a.size() == 1) return false;
  int first = -1;
  int agree = 0;
  for (int k = 0; k < kPoints; ++k) {
    const auto at = static_cast<size_t>(k);
    if (of_a[at].state == Sample::State::kUndefined || of_b[at].state == Sample::State::kUndefined) continue;
    if (IsZeroSample(of_a[at]) || IsZeroSample(of_b[at])) return false;
    if (first < 0) first = k;
    const auto f = static_cast<size_t>(first);
    if (!SameSample(Times(of_a[f], of_b[at]), Times(of_a[at], of_b[f]))) return false;
    ++agree;
  }
  if (agree < kPositivePoints) return false;
  if (equation) return true;
  const Sample ratio = Times(of_a[static_cast<size_t>(first)], of_b[static_cast<size_t>(first)]);
  return ratio.state == Sample::State::kExact ? ratio.exact > 0
                                              : ratio.numeric.IsReal() && mpfr_sgn(ratio.numeric.real()) > 0;
}

// f(2) < f(1) < f(4), also written backwards.
bool Comparison::SameChain(const Node& a, const Node& b) {
  if (a.args.size() != b.args.size()) return false;
  if (a.name == b.name && InOrder(a.args, b.args)) return true;
  std::string flipped(a.name.rbegin(), a.name.rend());
  for (char& sign : flipped) {
    constexpr std::string_view kFrom = "<>LG";
    constexpr std::string_view kTo = "><GL";
    const size_t at = kFrom.find(sign);
    if (at != std::string_view::npos) sign = kTo[at];
  }
  return flipped == b.name && InOrder({a.args.rbegin(), a.args.rend()}, b.args);
}

bool Comparison::SameRelation(int32_t a, int32_t b) {
  const Node rel_a = arena_[a];
  const Node rel_b = arena_[b];
  const int32_t value_a = ValueOf(arena_, evaluator_, a);
  const int32_t value_b = ValueOf(arena_, evaluator_, b);
  if (value_a >= 0 && value_b >= 0) {
    const Node& name_a = arena_[rel_a.args[0]];
    const Node& name_b = arena_[rel_b.args[0]];
    const bool other = name_a.kind == Kind::kSymbol && name_b.kind == Kind::kSymbol && name_a.name != name_b.name;
    if (!other && Same(value_a, value_b)) return true;
  }
  if (Proportional(a, b) || SameChain(rel_a, rel_b)) return true;
  std::string variable_a;
  std::string variable_b;
  const int32_t interval_a = IntervalOf(arena_, evaluator_, a, &variable_a);
  const int32_t interval_b = IntervalOf(arena_, evaluator_, b, &variable_b);
  if (interval_b < 0) return false;
  if (value_a >= 0) return Same(value_a, interval_b);  // x in [0, 1) for 0 <= x < 1
  return interval_a >= 0 && variable_a == variable_b && Same(interval_a, interval_b);
}

bool Comparison::InOrder(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  if (a.size() != b.size()) return false;
  for (size_t k = 0; k < a.size(); ++k) {
    if (!Same(a[k], b[k])) return false;
  }
  return true;
}

bool Comparison::InAnyOrder(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  if (a.size() != b.size()) return false;
  std::vector<char> used(b.size(), 0);
  for (int32_t item : a) {
    size_t k = 0;
    while (k < b.size() && (used[k] != 0 || !Same(item, b[k]))) ++k;
    if (k == b.size()) return false;
    used[k] = 1;
  }
  return true;
}

// A solution written twice is one solution. Numbers may well be listed twice.
std::vector<int32_t> Comparison::Distinct(const std::vector<int32_t>& items) {
  std::vector<int32_t> distinct;
  for (int32_t item : items) {
    bool seen = false;
    for (size_t k = 0; k < distinct.size() && !seen && IsStructure(arena_[item].kind); ++k) {
      seen = Same(item, distinct[k]);
    }
    if (!seen) distinct.push_back(item);
  }
  return distinct;
}

bool Comparison::SameInterval(int32_t a, int32_t b) {
  const auto brackets = [&](int32_t node) { return arena_[node].kind == Kind::kTuple ? "()" : arena_[node].name; };
  return brackets(a) == brackets(b) && InOrder(arena_[a].args, arena_[b].args);
}

bool Comparison::SameStructure(int32_t a, int32_t b) {
  const Node& node_a = arena_[a];
  const Node& node_b = arena_[b];
  const std::vector<int32_t> args_a = node_a.args;
  const std::vector<int32_t> args_b = node_b.args;
  const auto both_of = [&](auto... kinds) {
    return ((node_a.kind == kinds) || ...) && ((node_b.kind == kinds) || ...);
  };
  if (both_of(Kind::kText)) return PlainWords(node_a.name) == PlainWords(node_b.name);
  if (both_of(Kind::kList, Kind::kSet, Kind::kGroup)) return InAnyOrder(Distinct(args_a), Distinct(args_b));
  if (both_of(Kind::kList, Kind::kTuple) || both_of(Kind::kTuple)) return InOrder(args_a, args_b);
  if (both_of(Kind::kTuple, Kind::kInterval)) return args_a.size() == 2 && args_b.size() == 2 && SameInterval(a, b);
  if (both_of(Kind::kUnion)) {
    if (node_a.name != node_b.name) return false;
    return node_a.name == "\\" ? InOrder(args_a, args_b) : InAnyOrder(args_a, args_b);
  }
  if (both_of(Kind::kMatrix)) return node_a.name == node_b.name && InOrder(args_a, args_b);
  if (both_of(Kind::kMatrix, Kind::kTuple)) {  // a column vector
    return (node_a.kind == Kind::kMatrix ? node_a.name : node_b.name) == "1" && InOrder(args_a, args_b);
  }
  // A set of one and its element; the same value written in several ways, "3/2, or 1 1/2".
  const auto each = [&](const std::vector<int32_t>& items, int32_t other) {
    return !items.empty() && std::all_of(items.begin(), items.end(), [&](int32_t item) { return Same(item, other); });
  };
  if (IsCollection(node_a.kind) && !IsCollection(node_b.kind)) return each(args_a, b);
  if (IsCollection(node_b.kind) && !IsCollection(node_a.kind)) return each(args_b, a);
  return false;
}

bool Comparison::Same(int32_t answer, int32_t gold) {
  if (answer < 0 || gold < 0 || ++comparisons_ > kComparisonsMax || depth_ > kNestingMax) return false;
  ++depth_;
  bool same = false;
  const bool relation_a = arena_[answer].kind == Kind::kRelation;
  const bool relation_b = arena_[gold].kind == Kind::kRelation;
  if (relation_a && relation_b) {
    same = SameRelation(answer, gold);
  } else if (relation_a) {
    const int32_t value = ValueOf(arena_, evaluator_, answer);
    same = value >= 0 && Same(value, gold);
  } else if (relation_b) {
    std::string variable;
    const int32_t value = ValueOf(arena_, evaluator_, gold);
    same = value >= 0 && Same(answer, value);
    if (!same) same = Same(answer, IntervalOf(arena_, evaluator_, gold, &variable));
  } else if (IsStructure(arena_[answer].kind) && IsStructure(arena_[gold].kind)) {
    same = SameStructure(answer, gold);
  } else if (!IsStructure(arena_[answer].kind) && !IsStructure(arena_[gold].kind)) {
    same = SameScalar(answer, gold);
  } else {
    same = SameScalar(answer, gold) || SameStructure(answer, gold);
  }
  --depth_;
  return same;
}

}  // namespace conclave::grade::math
