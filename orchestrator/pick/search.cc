// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/pick/search.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "common/check.h"
#include "common/hash.h"

namespace conclave::orchestrator {
namespace {

constexpr int32_t kRoot = -1;

// A child whose rewards say no more: at least so many, of which so large a share is the same.
constexpr size_t kStaleRewards = 4;
constexpr double kStaleShare = 0.75;

// Priors of the mixed model.
constexpr double kMeanOfMean = 0.5, kSpreadOfMean = 0.2, kSpreadOfGroups = 0.2, kSpreadOfRewards = 0.3;
constexpr int kGrid = 24;      // points for each of the two deviations,
constexpr double kGridTo = 4;  // up to so many times their prior's

constexpr double kPi = 3.14159265358979323846;

// Draws from one seed, in their order.
class Draws {
 public:
  explicit Draws(uint64_t seed) : seed_(seed) {}
  // In (0, 1).
  double Uniform() { return std::max(PhiloxUniform(seed_, 0, ++count_), 0x1p-60); }
  double Normal() { return std::sqrt(-2 * std::log(Uniform())) * std::cos(2 * kPi * Uniform()); }
  // Marsaglia and Tsang 2000; below shape 1 by their power of a uniform.
  double Gamma(double shape) {
    if (shape < 1) return Gamma(shape + 1) * std::pow(Uniform(), 1 / shape);
    const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
    while (true) {
      const double x = Normal(), v = std::pow(1 + c * x, 3);
      if (v > 0 && std::log(Uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
    }
  }
  double Beta(double a, double b) {
    const double x = Gamma(a), y = Gamma(b);
    return x / (x + y);
  }

 private:
  const uint64_t seed_;
  uint64_t count_ = 0;
};

// Rewards of one group.
struct Group {
  double count = 0, sum = 0, squares = 0;
  void Add(double reward) { count += 1, sum += reward, squares += reward * reward; }
  double mean() const { return sum / count; }
  double spread() const { return std::max(0.0, squares - sum * sum / count); }  // sum of squared deviations
};

// The mixed model given one pair of deviations: log of the marginal likelihood, and the posterior of the mean.
struct Cell {
  double groups = 0, rewards = 0;  // deviations
  double log_weight = 0;
  double mean = 0, precision = 0;
};

Cell Fit(double groups, double rewards, std::span<const Group> data) {
  Cell cell = {groups, rewards, 0, 0, 0};
  cell.log_weight = -0.5 * std::pow(groups / kSpreadOfGroups, 2) - 0.5 * std::pow(rewards / kSpreadOfRewards, 2);
  double precision = 1 / (kSpreadOfMean * kSpreadOfMean), weighted = kMeanOfMean * precision;
  double quadratic = kMeanOfMean * kMeanOfMean * precision;
  for (const Group& group : data) {
    const double variance = groups * groups + rewards * rewards / group.count;
    cell.log_weight -= 0.5 * group.spread() / (rewards * rewards) + (group.count - 1) * std::log(rewards);
    cell.log_weight -= 0.5 * std::log(variance);
    precision += 1 / variance;
    weighted += group.mean() / variance;
    quadratic += group.mean() * group.mean() / variance;
  }
  cell.mean = weighted / precision;
  cell.precision = precision;
  cell.log_weight += -0.5 * (quadratic - weighted * weighted / precision) - 0.5 * std::log(precision);
  return cell;
}

Cell DrawCell(std::span<const Group> data, Draws* draws) {
  std::vector<Cell> cells;
  cells.reserve(size_t{kGrid} * kGrid);
  double most = -INFINITY;
  for (int i = 0; i < kGrid; ++i) {
    for (int j = 0; j < kGrid; ++j) {
      const double step = kGridTo / kGrid;
      cells.push_back(Fit((i + 0.5) * step * kSpreadOfGroups, (j + 0.5) * step * kSpreadOfRewards, data));
      most = std::max(most, cells.back().log_weight);
    }
  }
  double sum = 0;
  for (Cell& cell : cells) sum += std::exp(cell.log_weight - most);
  double left = draws->Uniform() * sum;
  for (const Cell& cell : cells) {
    left -= std::exp(cell.log_weight - most);
    if (left <= 0) return cell;
  }
  return cells.back();
}

// The tree as told, and what a batch has added to it.
class Tree {
 public:
  explicit Tree(std::span<const SearchNode> nodes) {
    double sum = 0;
    for (const SearchNode& node : nodes) {
      Add(node.parent, node.reward);
      sum += nodes_.back().reward;
    }
    mean_ = nodes.empty() ? 0.5 : sum / static_cast<double>(nodes.size());
    told_ = nodes_.size();
  }

  void AddPending(int32_t parent) { Add(parent, mean_); }
  // Of what was told; a trial that is under way has no answer to refine yet, but what it will say counts as said.
  std::vector<int32_t> Children(int32_t node) const {
    std::vector<int32_t> children;
    for (size_t i = 0; i < told_; ++i) {
      if (nodes_[i].parent == node) children.push_back(static_cast<int32_t>(i));
    }
    return children;
  }
  // Rewards of a node and all below it.
  std::vector<double> Below(int32_t node) const {
    std::vector<bool> inside(nodes_.size());
    std::vector<double> rewards;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const int32_t parent = nodes_[i].parent;
      inside[i] = static_cast<int32_t>(i) == node || (parent >= 0 && inside[static_cast<size_t>(parent)]);
      if (inside[i]) rewards.push_back(nodes_[i].reward);
    }
    return rewards;
  }
  std::vector<double> PendingAt(int32_t node) const {
    std::vector<double> rewards;
    for (size_t i = told_; i < nodes_.size(); ++i) {
      if (nodes_[i].parent == node) rewards.push_back(nodes_[i].reward);
    }
    return rewards;
  }
  // Rewards of what was made at the node itself.
  std::vector<double> MadeAt(int32_t node) const {
    std::vector<double> rewards;
    for (const SearchNode& made : nodes_) {
      if (made.parent == node) rewards.push_back(made.reward);
    }
    return rewards;
  }

 private:
  void Add(int32_t parent, double reward) {
    CONCLAVE_CHECK(parent >= kRoot && parent < static_cast<int32_t>(nodes_.size()));
    nodes_.push_back({parent, reward > 0 ? std::min(reward, 1.0) : 0.0});
  }

  std::vector<SearchNode> nodes_;
  double mean_ = 0.5;
  size_t told_ = 0;
};

bool IsStale(const std::vector<double>& rewards) {
  if (rewards.size() < kStaleRewards) return false;
  std::map<long, size_t> counts;
  size_t most = 0;
  for (const double reward : rewards) most = std::max(most, ++counts[std::lround(reward * 100)]);
  return static_cast<double>(most) >= kStaleShare * static_cast<double>(rewards.size());
}

// The child to enter, or kRoot for refining here.
int32_t ChooseMixed(const Tree& tree, int32_t node, Draws* draws) {
  std::vector<int32_t> open;
  std::vector<Group> groups, all;
  for (const int32_t child : tree.Children(node)) {
    const std::vector<double> rewards = tree.Below(child);
    Group group;
    for (const double reward : rewards) group.Add(reward);
    all.push_back(group);
    if (IsStale(rewards)) continue;
    open.push_back(child);
    groups.push_back(group);
  }
  for (const double reward : tree.PendingAt(node)) all.emplace_back().Add(reward);
  const Cell cell = DrawCell(all, draws);
  const double mean = cell.mean + draws->Normal() / std::sqrt(cell.precision);
  int32_t best = kRoot;
  double most = mean + cell.groups * draws->Normal() + cell.rewards * draws->Normal();  // a new child's
  for (size_t i = 0; i < open.size(); ++i) {
    const double prior = 1 / (cell.groups * cell.groups), data = groups[i].count / (cell.rewards * cell.rewards);
    const double centre = (prior * mean + data * groups[i].mean()) / (prior + data);
    const double reward = centre + draws->Normal() / std::sqrt(prior + data) + cell.rewards * draws->Normal();
    if (reward > most) most = reward, best = open[i];
  }
  return best;
}

double DrawBeta(const std::vector<double>& rewards, Draws* draws) {
  double a = 0.5, b = 0.5;
  for (const double reward : rewards) a += reward, b += 1 - reward;
  return draws->Beta(a, b);
}

int32_t ChooseAggregated(const Tree& tree, int32_t node, Draws* draws) {
  const std::vector<int32_t> children = tree.Children(node);
  if (children.empty()) return kRoot;
  std::vector<double> below;  // what came of going on: everything under the children
  for (const int32_t child : children) {
    const std::vector<double> rewards = tree.Below(child);
    below.insert(below.end(), rewards.begin() + 1, rewards.end());  // without the child itself
  }
  const double refine = DrawBeta(tree.MadeAt(node), draws);
  if (refine >= DrawBeta(below, draws)) return kRoot;
  int32_t best = kRoot;
  double most = -1;
  for (const int32_t child : children) {
    const double reward = DrawBeta(tree.Below(child), draws);
    if (reward > most) most = reward, best = child;
  }
  return best;
}

}  // namespace

std::vector<int32_t> AskSearch(SearchModel model, std::span<const SearchNode> nodes, int32_t count, uint64_t seed) {
  Tree tree(nodes);
  Draws draws(seed);
  std::vector<int32_t> asked;
  for (int32_t trial = 0; trial < count; ++trial) {
    int32_t node = kRoot;
    while (true) {
      const bool leaf = tree.Children(node).empty();
      const int32_t next = leaf                           ? kRoot
                           : model == SearchModel::kMixed ? ChooseMixed(tree, node, &draws)
                                                          : ChooseAggregated(tree, node, &draws);
      if (next == kRoot) break;
      node = next;
    }
    asked.push_back(node);
    tree.AddPending(node);
  }
  return asked;
}

size_t NextArm(std::span<const Arm> arms) {
  CONCLAVE_CHECK(!arms.empty());
  double total = 0;
  for (const Arm& arm : arms) total += static_cast<double>(arm.count);
  size_t best = 0;
  double most = -INFINITY;
  for (size_t i = 0; i < arms.size(); ++i) {
    if (arms[i].count == 0) return i;
    const auto n = static_cast<double>(arms[i].count);
    const double bound = arms[i].reward_sum / n + std::sqrt(2.0) * std::sqrt(std::log(total) / n);
    if (bound > most) most = bound, best = i;
  }
  return best;
}

}  // namespace conclave::orchestrator
