// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/evaluate.h"

#include <algorithm>
#include <utility>

#include "common/hash.h"
#include "orchestrator/experiment/grade/math/exact.h"
#include "orchestrator/experiment/grade/math/numeric.h"

namespace conclave::grade::math {
namespace {

constexpr size_t kExactWorkBitsMax = size_t{1} << 22;  // of one evaluation, all nodes together

bool IsConstantName(const std::string& name) { return name == "pi" || name == "e" || name == "i" || name == "inf"; }

// A value in [1, 3) from 64 bits, of 22 bits, so that sums and products stay small.
mpq_class Spread(uint64_t bits) {
  constexpr unsigned kDenominator = 1 << 20;
  mpq_class value(kDenominator + static_cast<unsigned>(bits >> 43), kDenominator);
  value.canonicalize();
  return value;
}

mpq_class Variable(const std::string& name, int point) {
  const uint64_t bits = Mix64(Fnv1a64(name) + static_cast<uint64_t>(point));
  const mpq_class value = Spread(bits);
  return point >= kPositivePoints && (bits & 1) != 0 ? mpq_class(-value) : value;
}

// All nodes below a root, each once, children before parents.
std::vector<int32_t> Order(const Arena& arena, int32_t root) {
  std::vector<char> below(static_cast<size_t>(root) + 1, 0);
  below.back() = 1;
  std::vector<int32_t> order;
  for (int32_t node = root; node >= 0; --node) {
    if (below[static_cast<size_t>(node)] == 0) continue;
    order.push_back(node);
    for (int32_t arg : arena[node].args) below[static_cast<size_t>(arg)] = 1;
  }
  std::reverse(order.begin(), order.end());
  return order;
}

// What a function nobody defined gives: some number that depends on its name and arguments only.
Sample Opaque(const Node& node, const std::vector<const Sample*>& args) {
  uint64_t bits = Mix64(Fnv1a64(node.name, static_cast<uint64_t>(node.kind)));
  for (const Sample* arg : args) bits = Mix64(bits ^ Fnv1a64(SampleText(*arg)));
  Sample out;
  out.state = Sample::State::kExact;
  out.exact = Spread(bits);
  return out;
}

void Symbol(const Node& node, int point, Sample& out) {
  out.state = Sample::State::kNumeric;
  if (node.name == "pi") {
    SetPi(out.numeric);
  } else if (node.name == "e") {
    SetE(out.numeric);
  } else if (node.name == "i") {
    SetI(out.numeric);
  } else if (node.name == "inf") {
    out.state = Sample::State::kUndefined;
  } else {
    out.state = Sample::State::kExact;
    out.exact = Variable(node.name, point);
  }
}

bool IsOpaque(Kind kind) { return kind == Kind::kOpaque || kind == Kind::kBase || IsStructure(kind); }

// Beyond the rationals. Arguments that are exact get a numeric value here.
void Numerically(const Node& node, std::vector<Sample*>& args, Domain domain, Sample& out) {
  std::vector<const Complex*> values;
  out.scale = 0;
  for (Sample* arg : args) {
    if (arg->state == Sample::State::kExact) {
      arg->numeric = Complex(arg->exact.get_mpq_t());
      arg->scale = arg->numeric.Exponent();
    }
    values.push_back(&arg->numeric);
    out.scale = std::max(out.scale, arg->scale);
  }
  const bool has_exponent = node.kind == Kind::kPower || node.kind == Kind::kRoot;
  const mpq_class* exponent = has_exponent && args[1]->state == Sample::State::kExact ? &args[1]->exact : nullptr;
  const bool defined = ApplyNumerically(node, values, exponent, domain, out.numeric);
  out.state = defined ? Sample::State::kNumeric : Sample::State::kUndefined;
  out.scale = std::max(out.scale, out.numeric.Exponent());
}

}  // namespace

Sample Evaluator::At(const std::vector<int32_t>& order, int point) {
  std::vector<Sample> values(order.size());
  std::vector<char> varies(order.size(), 0);
  size_t work = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    const Node& node = arena_[order[k]];
    Sample& out = values[k];
    std::vector<Sample*> args;
    bool exact = work < kExactWorkBitsMax;
    bool defined = true;
    for (int32_t arg : node.args) {
      const auto slot = std::lower_bound(order.begin(), order.end(), arg) - order.begin();
      args.push_back(&values[static_cast<size_t>(slot)]);
      exact = exact && args.back()->state == Sample::State::kExact;
      defined = defined && args.back()->state != Sample::State::kUndefined;
      if (varies[static_cast<size_t>(slot)] != 0) varies[k] = 1;
    }
    if (IsOpaque(node.kind)) {
      out = Opaque(node, {args.begin(), args.end()});
    } else if (node.kind == Kind::kNumber) {
      out.state = Sample::State::kExact;
      out.exact = arena_.Number(node);
    } else if (node.kind == Kind::kSymbol) {
      varies[k] = IsConstantName(node.name) ? 0 : 1;
      Symbol(node, point, out);
    } else if (defined) {
      std::vector<const mpq_class*> rationals;
      for (const Sample* arg : args) rationals.push_back(&arg->exact);
      std::optional<mpq_class> value;
      if (exact) value = ApplyExactly(node.kind, rationals);
      if (value) {
        out.state = Sample::State::kExact;
        out.exact = *std::move(value);
        work += Bits(out.exact);
      } else if (node.kind == Kind::kFactorial || node.kind == Kind::kBinomial ||
                 (node.kind == Kind::kRatio && exact)) {  // 12:00 is a time
        out = Opaque(node, {args.begin(), args.end()});
      } else {
        Numerically(node, args, varies[k] != 0 ? Domain::kReal : Domain::kComplex, out);
      }
    }
  }
  return std::move(values.back());
}

const std::vector<Sample>& Evaluator::Samples(int32_t node) {
  const auto [entry, added] = known_.try_emplace(node);
  if (!added) return entry->second;
  const std::vector<int32_t> order = Order(arena_, node);
  bool varies = false;
  for (int32_t below : order) {
    varies = varies || (arena_[below].kind == Kind::kSymbol && !IsConstantName(arena_[below].name));
  }
  for (int point = 0; point < (varies ? kPoints : 1); ++point) entry->second.push_back(At(order, point));
  return entry->second;
}

std::optional<mpq_class> Evaluator::Exact(int32_t node) {
  const std::vector<Sample>& samples = Samples(node);
  if (samples.size() != 1 || samples[0].state != Sample::State::kExact) return std::nullopt;
  return samples[0].exact;
}

bool SameSample(const Sample& a, const Sample& b) {
  if (a.state == Sample::State::kUndefined || b.state == Sample::State::kUndefined) return false;
  if (a.state == Sample::State::kExact && b.state == Sample::State::kExact) return a.exact == b.exact;
  const auto numeric = [](const Sample& s) {
    return s.state == Sample::State::kExact ? Complex(s.exact.get_mpq_t()) : s.numeric;
  };
  return NearlyEqual(numeric(a), numeric(b), std::max(a.scale, b.scale));
}

std::string SampleText(const Sample& sample) {
  switch (sample.state) {
    case Sample::State::kExact:
      return sample.exact.get_str();
    case Sample::State::kNumeric:
      return sample.numeric.Text(30);
    case Sample::State::kUndefined:
      break;
  }
  return "undefined";
}

}  // namespace conclave::grade::math
