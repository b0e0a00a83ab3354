// SPDX-License-Identifier: Apache-2.0
// Normal forms of answers: Comparison::Key.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "common/hash.h"
#include "orchestrator/experiment/grade/math/comparison.h"
#include "orchestrator/experiment/grade/math/structure.h"

namespace conclave::grade::math {
namespace {

constexpr int kKeyDepthMax = 16;  // of structures in structures; deeper ones have no normal form but their text

}  // namespace

std::string Comparison::Joined(std::vector<int32_t> items, bool sort) {
  std::vector<std::string> keys;
  keys.reserve(items.size());
  for (int32_t item : items) {
    keys.push_back(Key(item));
    if (keys.back().empty()) return "";
  }
  if (sort) {
    std::sort(keys.begin(), keys.end());
    const bool structures =
        std::all_of(items.begin(), items.end(), [&](int32_t item) { return IsStructure(arena_[item].kind); });
    if (structures) keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  }
  std::string out;
  for (const std::string& key : keys) out += (out.empty() ? "" : ", ") + key;
  return out;
}

std::string Comparison::ScalarKey(int32_t node) {
  const Bare bare = Strip(node);
  if (bare.value != node && IsStructure(arena_[bare.value].kind)) return Key(bare.value);
  if (const int sign = Infinity(arena_, bare.value)) return sign > 0 ? "inf" : "-inf";
  const std::vector<Sample>& samples = evaluator_.Samples(bare.value);
  if (samples[0].state == Sample::State::kUndefined && samples.size() == 1) return "";
  bool same = true;
  for (const Sample& sample : samples) same = same && SameSample(samples[0], sample);
  std::string text;
  if (same) {
    text = SampleText(samples[0]);  // a constant, also one that is written with variables: x - x
  } else {
    uint64_t hash = 0;
    for (const Sample& sample : samples) hash = Mix64(hash ^ Fnv1a64(SampleText(sample)));
    text = fmt::format("expression#{:016x}", hash);
  }
  return bare.percent ? text + "%" : text;
}

std::string Comparison::Key(int32_t node) {
  if (node < 0 || depth_ >= kKeyDepthMax) return "";
  ++depth_;
  std::string key;
  const Node n = arena_[node];
  switch (n.kind) {
    case Kind::kText:
      key = PlainWords(n.name);
      break;
    case Kind::kList:
    case Kind::kSet:
    case Kind::kGroup:
      key = Joined(n.args, true);
      if (!key.empty() && n.args.size() > 1) key = "{" + key + "}";
      break;
    case Kind::kTuple:
      key = Joined(n.args, false);
      if (!key.empty()) key = "(" + key + ")";
      break;
    case Kind::kInterval:
      key = Joined(n.args, false);
      if (!key.empty()) key = n.name.substr(0, 1) + key + n.name.substr(1);
      break;
    case Kind::kUnion:
      key = Joined(n.args, n.name != "\\");
      if (!key.empty()) key = n.name + "<" + key + ">";
      break;
    case Kind::kMatrix:
      key = Joined(n.args, false);
      if (!key.empty()) key = "matrix" + n.name + "<" + key + ">";
      break;
    case Kind::kRelation: {
      const int32_t value = ValueOf(arena_, evaluator_, node);
      std::string variable;
      const int32_t interval = value >= 0 ? -1 : IntervalOf(arena_, evaluator_, node, &variable);
      if (value >= 0 || interval >= 0) {
        key = Key(value >= 0 ? value : interval);
        if (interval >= 0 && !key.empty()) key = variable + " in " + key;
      } else {
        key = Joined(n.args, false);
        if (!key.empty()) key = "relation" + n.name + "<" + key + ">";
      }
      break;
    }
    default:
      key = ScalarKey(node);
  }
  --depth_;
  return key;
}

}  // namespace conclave::grade::math
