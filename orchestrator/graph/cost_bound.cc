// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/cost_bound.h"

#include <algorithm>
#include <cmath>

#include "common/status.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/limits.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

// What a prompt adds to an utterance it shows: a name, a heading, a line or two.
constexpr double kFramingTokens = 16;
// An extracted answer, or a score.
constexpr double kShortTokens = 16;

// More utterances than any run can make: beyond it a bound is of no interest.
constexpr double kHeldMax = 1e6;
constexpr int kPassesMax = 2 * kKeepMax + kGraphNodesMax;

// All as double: products of limits exceed 64 bits before the check against kCallsPerRunMax.
struct Work {
  double calls = 0, output_tokens = 0, prompt_tokens = 0, flops = 0;
  void Add(const Work& other, double times = 1) {
    calls += times * other.calls;
    output_tokens += times * other.output_tokens;
    prompt_tokens += times * other.prompt_tokens;
    flops += times * other.flops;
  }
};

Work Larger(const Work& a, const Work& b) {
  return {std::max(a.calls, b.calls), std::max(a.output_tokens, b.output_tokens),
          std::max(a.prompt_tokens, b.prompt_tokens), std::max(a.flops, b.flops)};
}

// How many utterances a node can hold, and how long each can be.
struct Holding {
  double count = 0;
  double tokens = 0;
  friend bool operator==(const Holding&, const Holding&) = default;
};

class Bounder {
 public:
  Bounder(const CompiledGraph& graph, const CostInputs& inputs)
      : graph_(graph), inputs_(inputs), holdings_(graph.nodes().size()) {
    for (const CompiledNode& node : graph.nodes()) {
      const bool seated = node.kind == NodeKind::kSpeak || node.kind == NodeKind::kJudge;
      seats_.push_back(seated ? SeatsOf(node, inputs.binding) : std::vector<int32_t>());
    }
    // Loops hand utterances round and nodes may stand before what they read, so sizes are computed until they stand
    // still. Every pass only enlarges them. They do stand still: what grows by adding is a pick, which keeps kKeepMax
    // at most, and what grows by multiplying comes to kHeldMax soon.
    bool settled = false;
    for (int pass = 0; pass < kPassesMax && !settled; ++pass) {
      const std::vector<Holding> before = holdings_;
      for (const CompiledNode& node : graph.nodes()) {
        Holding held = Hold(node);
        held.count = std::min(held.count, kHeldMax);
        holdings_[Index(node.index)] = held;
      }
      settled = before == holdings_;
    }
    if (!settled) std::fill(holdings_.begin(), holdings_.end(), Holding{kHeldMax, kHeldMax});
  }

  Work Total() {
    // Contents come after their container: backwards, a body's cost is known when its loop is reached.
    std::vector<Work> sequences(graph_.sequences().size());
    for (size_t i = graph_.nodes().size(); i-- > 0;) {
      const CompiledNode& node = graph_.nodes()[i];
      Work work;
      if (node.kind == NodeKind::kLoop) {
        work.Add(sequences[Index(node.body)], node.max_rounds);
      } else if (node.kind == NodeKind::kCall) {
        work = sequences[Index(node.body)];
      } else if (node.kind == NodeKind::kBranch) {
        for (const int32_t arm : {node.then, node.otherwise}) {
          if (arm >= 0) work = Larger(work, sequences[Index(arm)]);
        }
      } else {
        work = Calls(node);
      }
      sequences[Index(node.sequence)].Add(work);
    }
    return sequences.front();
  }

 private:
  static size_t Index(int32_t index) { return static_cast<size_t>(index); }
  Holding At(int32_t index) const { return index == kNoNode ? Holding() : holdings_[Index(index)]; }

  Holding Hold(const CompiledNode& node) const {
    const auto larger = [](Holding a, Holding b) {
      return Holding{std::max(a.count, b.count), std::max(a.tokens, b.tokens)};
    };
    switch (node.kind) {
      case NodeKind::kSpeak:
        return {Askers(node) * node.samples * Subjects(node) * Items(node), static_cast<double>(OutputTokensMax(node))};
      case NodeKind::kJudge:
        return {Askers(node) * node.samples * Questions(node), static_cast<double>(OutputTokensMax(node))};
      case NodeKind::kPick: {
        Holding competing = At(node.of);
        for (const int32_t also : node.also) {
          competing = {competing.count + At(also).count, std::max(competing.tokens, At(also).tokens)};
        }
        // A search may ask afresh as often as it likes, whatever there is.
        return {node.searches() ? node.keep : std::min<double>(node.keep, competing.count), competing.tokens};
      }
      case NodeKind::kCheck:
        return {At(node.of).count, 4 * kShortTokens};
      case NodeKind::kLoop:
        return larger(At(node.over), At(node.yields));
      case NodeKind::kBranch: {
        Holding held = At(node.otherwise_value);
        for (const int32_t arm : {node.then, node.otherwise}) {
          if (arm < 0) continue;
          for (const int32_t inner : graph_.sequence(arm).nodes) held = larger(held, At(inner));
        }
        return held;
      }
      case NodeKind::kCall: {
        // When its budget runs out, one utterance of any node of it.
        Holding held = At(node.yields);
        for (int32_t i = node.index + 1; i < static_cast<int32_t>(graph_.nodes().size()); ++i) {
          if (!graph_.IsInside(i, node.index)) break;
          if (At(i).count > 0) held = larger(held, {1, At(i).tokens});
        }
        return held;
      }
    }
    return {};
  }

  // Utterances that one comparison of the judge shows, at most.
  double Window(const CompiledNode& node) const {
    if (node.method == pb::Judge::PAIRS) return 2;
    return node.window == 0 ? At(node.of).count : std::min<double>(node.window, At(node.of).count);
  }

  // Utterances that one call can become.
  static double Items(const CompiledNode& node) {
    const bool plans = node.role != nullptr && node.role->contract == ContractKind::kItems;
    return plans ? node.role->proto.items().max() : 1;
  }

  // Members that are asked about one thing.
  double Askers(const CompiledNode& node) const {
    return node.one_of_the_members() ? 1 : static_cast<double>(seats_[Index(node.index)].size());
  }

  double Subjects(const CompiledNode& node) const { return node.each == kNoNode ? 1 : At(node.each).count; }

  // Calls of one judge and sample.
  double Questions(const CompiledNode& node) const {
    const double count = At(node.of).count;
    if (node.method == pb::Judge::PAIRS) return count * std::max(0.0, count - 1);  // every two, in both orders
    if (node.compares()) return node.window == 0 ? std::min(1.0, count) : std::ceil(count / node.window);
    return count;
  }

  // Bytes of the role and the question, and tokens of what others wrote, in one prompt of the node.
  std::pair<double, double> PromptOf(const CompiledNode& node) const {
    double text = static_cast<double>(node.role->proto.system().size() + node.role->proto.task().size()) +
                  static_cast<double>(inputs_.input_bytes);
    for (const pb::Turn& turn : node.role->proto.examples()) text += static_cast<double>(turn.content().size());
    double shown = 0;
    for (int32_t scope = node.scope; scope != kNoNode; scope = graph_.node(scope).scope) {
      for (const CompiledArgument& argument : graph_.node(scope).arguments) {
        for (const auto& [name, read] : argument.nodes) shown += At(read).tokens;
      }
    }
    if (node.compares()) {
      shown += Window(node) * (At(node.of).tokens + kFramingTokens);
    } else if (const int32_t subject = node.kind == NodeKind::kJudge ? node.of : node.each; subject != kNoNode) {
      // The utterance, and what it is about.
      const CompiledNode& from = graph_.node(subject);
      shown += At(subject).tokens + At(from.kind == NodeKind::kJudge ? from.of : from.each).tokens;
    }
    for (const CompiledSees& sees : node.sees) {
      const Holding held = At(sees.node);
      const double all = held.count * sees.memory;
      const double count = sees.limit > 0 ? std::min<double>(sees.limit, all) : all;
      const bool brief = sees.part == pb::Sees::ANSWER || sees.part == pb::Sees::SCORE;
      shown += count * ((brief ? kShortTokens : held.tokens) + kFramingTokens);
    }
    return {text, shown};
  }

  // Of the conversations that a judge may follow: those of speaks, of which the longest counts.
  std::pair<double, double> LongestPrompt() const {
    std::pair<double, double> longest = {0, 0};
    for (const CompiledNode& node : graph_.nodes()) {
      if (node.kind != NodeKind::kSpeak) continue;
      const auto [text, shown] = PromptOf(node);
      longest = {std::max(longest.first, text), std::max(longest.second, shown)};
    }
    return longest;
  }

  Work Calls(const CompiledNode& node) const {
    Work work;
    if (node.role == nullptr) return work;
    const double asked =
        (node.hedges() ? 2 : 1) * node.samples * (node.kind == NodeKind::kJudge ? Questions(node) : Subjects(node));
    const double output = OutputTokensMax(node);
    auto [text, shown] = PromptOf(node);
    if (node.follow) {
      const auto [more_text, more_shown] = LongestPrompt();
      text += more_text, shown += more_shown;
    }
    Work dearest;
    for (const int32_t seat : seats_[Index(node.index)]) {
      const CostModel& cost = inputs_.members[Index(seat)];
      const double prompt = std::ceil(text / cost.characters_per_token) + shown;
      const double bounded = std::min(prompt, 1e15);
      Work one = {1, output, bounded,
                  EstimateFlops(cost, static_cast<int64_t>(bounded), 0, static_cast<int64_t>(output))};
      if (const double words = static_cast<double>(node.role->proto.repair().size()); words > 0 && output > 0) {
        // Asked again, with what it wrote.
        const double longer = std::min(bounded + output + std::ceil(words / cost.characters_per_token), 1e15);
        one.Add(
            {1, output, longer, EstimateFlops(cost, static_cast<int64_t>(longer), 0, static_cast<int64_t>(output))});
      }
      work.Add(one, asked);
      dearest = Larger(dearest, one);
    }
    if (!node.one_of_the_members()) return work;
    // It may be the dearest each time.
    Work by_writers;
    by_writers.Add(dearest, asked);
    return by_writers;
  }

  const CompiledGraph& graph_;
  const CostInputs& inputs_;
  std::vector<std::vector<int32_t>> seats_;
  std::vector<Holding> holdings_;
};

int64_t Count(double value) { return value >= 9e18 ? int64_t{9'000'000'000'000'000'000} : std::llround(value); }

}  // namespace

int32_t OutputTokensMax(const CompiledNode& node) {
  if (node.kind == NodeKind::kJudge && node.method == pb::Judge::P_TRUE) return 0;
  return node.sampling.has_max_output_tokens() ? node.sampling.max_output_tokens() : kDefaultOutputTokens;
}

absl::StatusOr<pb::CostBound> BoundCost(const CompiledGraph& graph, const CostInputs& inputs) {
  const Work work = Bounder(graph, inputs).Total();
  if (work.calls > static_cast<double>(kCallsPerRunMax)) {
    return ResourceExhausted(
        "graph \"{}\": {:.0f} calls in the worst case, at most {} allowed; bind fewer members or lower samples or "
        "rounds",
        graph.name(), work.calls, kCallsPerRunMax);
  }
  pb::CostBound bound;
  bound.set_calls(Count(work.calls));
  bound.set_output_tokens(Count(work.output_tokens));
  bound.set_prompt_tokens(Count(work.prompt_tokens));
  bool known = true;
  for (const std::string& name : graph.MemberNames()) {
    for (const int32_t member : inputs.binding.at(name)) {
      known = known && inputs.members[static_cast<size_t>(member)].flops_per_token > 0;
    }
  }
  if (known) bound.set_flops(work.flops);
  return bound;
}

}  // namespace conclave::orchestrator
