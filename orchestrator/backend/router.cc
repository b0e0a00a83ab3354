// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/router.h"

#include <map>
#include <utility>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

class Router final : public Backend {
 public:
  Router(std::vector<std::unique_ptr<Backend>> backends, std::vector<std::string> order,
         std::map<std::string, Backend*> by_member)
      : backends_(std::move(backends)), order_(std::move(order)), by_member_(std::move(by_member)) {}

  void Start(CallRequest request, CallSink* sink) override {
    const auto found = by_member_.find(request.member);
    if (found == by_member_.end()) {
      CallOutcome outcome;
      outcome.status = NotFound("MEMBER_NOT_FOUND: no member \"{}\" in this fleet", request.member);
      sink->OnDone(request.id, std::move(outcome));
      return;
    }
    found->second->Start(std::move(request), sink);
  }

  // Ids are unique over all backends, so those that do not know this one do nothing.
  void Cancel(CallId id) override {
    for (const auto& backend : backends_) backend->Cancel(id);
  }

  std::vector<MemberFacts> Describe() const override {
    std::map<std::string, MemberFacts> facts;
    for (const auto& backend : backends_) {
      for (MemberFacts& member : backend->Describe()) facts[member.name] = std::move(member);
    }
    std::vector<MemberFacts> out;
    for (const std::string& name : order_) out.push_back(std::move(facts[name]));
    return out;
  }

 private:
  const std::vector<std::unique_ptr<Backend>> backends_;
  const std::vector<std::string> order_;
  const std::map<std::string, Backend*> by_member_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> NewRouter(std::vector<std::unique_ptr<Backend>> backends,
                                                   std::vector<std::string> order) {
  std::map<std::string, Backend*> by_member;
  for (const auto& backend : backends) {
    for (const MemberFacts& member : backend->Describe()) {
      if (!by_member.emplace(member.name, backend.get()).second) {
        return InvalidArgument("member \"{}\" has two backends", member.name);
      }
    }
  }
  for (const std::string& name : order) {
    if (!by_member.contains(name)) return InvalidArgument("member \"{}\" has no backend", name);
  }
  return std::make_unique<Router>(std::move(backends), std::move(order), std::move(by_member));
}

}  // namespace conclave::orchestrator
