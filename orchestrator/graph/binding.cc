// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/binding.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/status.h"
#include "protos/textproto.h"

namespace conclave::orchestrator {
namespace {

const CompiledNode* FirstUser(const CompiledGraph& graph, const std::string& name) {
  for (const CompiledNode& node : graph.nodes()) {
    if (std::find(node.members.begin(), node.members.end(), name) != node.members.end()) return &node;
  }
  return nullptr;
}

std::string Unbound(const CompiledGraph& graph, const std::string& name, const std::vector<std::string>& patterns,
                    bool bound, std::span<const std::string> members) {
  const CompiledNode* user = FirstUser(graph, name);
  std::string what = fmt::format("graph \"{}\": node \"{}\": ", graph.name(), user == nullptr ? "" : user->name);
  if (bound) {
    what += fmt::format("members \"{}\" are bound to {}, which is no member", name, fmt::join(patterns, ", "));
  } else {
    what += fmt::format("members \"{}\" are bound to nobody", name);
  }
  if (members.empty()) return what + "; the fleet has no members";
  const std::vector<std::string> names(members.begin(), members.end());
  const std::string_view nearest = patterns.empty() ? std::string_view() : Nearest(patterns.front(), names);
  if (!nearest.empty()) return what + fmt::format("; did you mean \"{}\"?", nearest);
  constexpr size_t kShown = 12;
  return what + fmt::format("; bind \"{}\" to some of: {}{}", name,
                            fmt::join(names.begin(),
                                      names.begin() + static_cast<ptrdiff_t>(std::min(kShown, names.size())), ", "),
                            names.size() > kShown ? ", .." : "");
}

}  // namespace

bool GlobMatches(std::string_view pattern, std::string_view name) {
  // On a mismatch the last star takes one character more; earlier stars need never be revisited.
  size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

absl::StatusOr<std::map<std::string, std::vector<int32_t>>> ResolveBinding(
    const CompiledGraph& graph, std::span<const deliberation::v1::Binding> bindings,
    std::span<const std::string> members) {
  std::map<std::string, std::vector<int32_t>> resolved;
  std::vector<std::string> errors;
  for (const std::string& name : graph.MemberNames()) {
    std::vector<std::string> patterns = {name};
    bool bound = false;
    for (const deliberation::v1::Binding& binding : bindings) {
      if (binding.name() != name) continue;
      patterns.assign(binding.members().begin(), binding.members().end());
      bound = true;
    }
    std::vector<int32_t>& indices = resolved[name];
    std::vector<bool> taken(members.size());
    for (const std::string& pattern : patterns) {
      for (size_t i = 0; i < members.size(); ++i) {
        if (taken[i] || !GlobMatches(pattern, members[i])) continue;
        taken[i] = true;
        indices.push_back(static_cast<int32_t>(i));
      }
    }
    if (indices.empty()) errors.push_back(Unbound(graph, name, patterns, bound, members));
  }
  if (!errors.empty()) return InvalidArgument("{}", fmt::join(errors, "\n"));
  return resolved;
}

std::vector<int32_t> SeatsOf(const CompiledNode& node, const std::map<std::string, std::vector<int32_t>>& binding) {
  std::vector<int32_t> seats;
  std::set<int32_t> taken;
  for (const std::string& name : node.members) {
    for (const int32_t member : binding.at(name)) {
      if (taken.insert(member).second) seats.push_back(member);
    }
  }
  return seats;
}

}  // namespace conclave::orchestrator
