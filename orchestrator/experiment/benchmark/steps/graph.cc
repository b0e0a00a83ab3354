// SPDX-License-Identifier: Apache-2.0
// The shortest way through a network of one-way roads: Dijkstra's algorithm, a settled town a line, with the distances
// that are open behind it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "orchestrator/experiment/benchmark/steps/families.h"

namespace conclave::benchmark {
namespace {

struct Road {
  char from = 'A', to = 'B';
  int64_t length = 1;
};

// Distance of `goal` from A; -1 where a wrong solution finds no way.
int64_t ShortestWay(const std::vector<Road>& roads, char goal, Hand& hand) {
  std::map<char, int64_t> open = {{'A', 0}};
  std::set<char> settled;
  while (!open.empty()) {
    auto next =
        std::min_element(open.begin(), open.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    if (hand.Slips()) next = std::next(next) == open.end() ? open.begin() : std::next(next);
    const auto [town, distance] = *next;
    open.erase(next);
    settled.insert(town);
    if (town == goal) {
      hand.Write(fmt::format("{} ", town), distance);
      return distance;
    }
    for (const Road& road : roads) {
      if (road.from != town || settled.contains(road.to) || hand.Slips()) continue;
      const int64_t length = hand.Number(distance + road.length);
      const auto [at, is_new] = open.try_emplace(road.to, length);
      if (!is_new && length < at->second) at->second = length;
    }
    std::string shown;
    for (const auto& [name, length] : open) shown += fmt::format("{}{} {}", shown.empty() ? "" : ", ", name, length);
    if (shown.empty()) shown = "none";
    std::string line = fmt::format("{} {}; open {}", town, distance, shown);
    hand.Write(std::move(line), std::move(shown));
  }
  return -1;
}

}  // namespace

Problem MakeGraph(Dice& dice, int difficulty) {
  const int64_t towns = 4 + difficulty * 2 / 3;
  const int64_t length_max = difficulty <= 5 ? 9 : 25;
  std::vector<Road> roads;
  std::set<std::pair<char, char>> known;
  const auto add = [&](int64_t from, int64_t to) {
    const char a = static_cast<char>('A' + from);
    const char b = static_cast<char>('A' + to);
    if (from == to || b == 'A' || !known.insert({a, b}).second) return;
    roads.push_back({a, b, dice.Between(1, length_max)});
  };
  for (int64_t town = 1; town < towns; ++town) add(dice.Between(std::max<int64_t>(0, town - 2), town - 1), town);
  for (int64_t i = 0; i < towns; ++i) add(dice.Between(0, towns - 2), dice.Between(1, towns - 1));
  for (size_t i = roads.size(); i > 1; --i) {
    std::swap(roads[i - 1], roads[static_cast<size_t>(dice.Between(0, static_cast<int64_t>(i) - 1))]);
  }
  const char goal = static_cast<char>('A' + towns - 1);
  std::vector<std::string> words;
  words.reserve(roads.size());
  for (const Road& road : roads) words.push_back(fmt::format("{} to {} {}", road.from, road.to, road.length));
  Problem problem;
  problem.question =
      fmt::format("One-way roads: {}. How long is the shortest way from A to {}?", fmt::join(words, ", "), goal);
  problem.plan = {
      fmt::format("Given: {} roads with their lengths; asked: the shortest way from A to {}.", roads.size(), goal),
      "Keep the towns that can be reached, with their distances.", "Settle the nearest one and follow its roads.",
      fmt::format("Stop at {}.", goal)};
  problem.work = [roads, goal](Hand& hand) { return ShortestWay(roads, goal, hand); };
  return problem;
}

}  // namespace conclave::benchmark
