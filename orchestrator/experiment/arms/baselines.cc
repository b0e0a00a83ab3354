// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/arms/baselines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/experiment/arms/removal.h"
#include "orchestrator/experiment/benchmark/recorded.h"
#include "orchestrator/graph/compile.h"

namespace conclave::experiment {
namespace {

using deliberation::v1::Arm;
using deliberation::v1::Baseline;
using orchestrator::CompiledGraph;

std::string Join(const std::vector<std::string>& names) { return fmt::format("{}", fmt::join(names, ", ")); }

// Equal for arms that do the same: graph, seats, knobs.
std::string KeyOf(const Seating& seating, const deliberation::v1::RunRequest& request) {
  std::string key = seating.graph->revision();
  for (const auto& [name, seats] : seating.spec.binding) {
    key += fmt::format("\n{}:", name);
    for (const int32_t seat : seats) key += seating.spec.members[static_cast<size_t>(seat)].name + ",";
  }
  return key + "\n" + request.sampling().ShortDebugString() + "\n" + request.budget().ShortDebugString();
}

// Letters that file names and graph names may have.
std::string Slug(std::string_view name) {
  std::string slug;
  for (const char c : name) {
    const bool kept = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    const bool capital = c >= 'A' && c <= 'Z';
    if (kept || capital) {
      slug += capital ? static_cast<char>(c - 'A' + 'a') : c;
    } else if (!slug.empty() && slug.back() != '_') {
      slug += '_';
    }
  }
  return slug.substr(0, 56);
}

orchestrator::RoleLibrary RolesOf(const CompiledGraph& graph) {
  orchestrator::RoleLibrary roles;
  for (const auto& role : graph.bundle().role()) {
    CONCLAVE_CHECK(roles.Add(role).ok());  // they were compiled before, in the same bundle
  }
  return roles;
}

// Asks for so many samples of its first speak.
std::shared_ptr<const CompiledGraph> WithSamples(const CompiledGraph& graph, int32_t samples) {
  deliberation::v1::Graph proto = graph.proto();
  proto.set_name(fmt::format("self_consistency_{}", samples));
  proto.set_description(fmt::format("One member answers {} times; the most frequent answer wins.", samples));
  for (auto& node : *proto.mutable_node()) {
    if (node.has_speak()) node.mutable_speak()->set_samples(samples);
  }
  return orchestrator::CompileGraph(proto, RolesOf(graph)).graph;
}

class Maker {
 public:
  Maker(const LoadedExperiment& experiment, const orchestrator::LoadedFleet& fleet, orchestrator::GraphLibrary& library,
        Baselines* out)
      : experiment_(experiment),
        fleet_(fleet),
        library_(library),
        out_(out),
        bytes_(LongestQuestion(experiment.plan)) {}

  // Every arm there is, declared or generated before, with its seats.
  absl::Status Open() {
    for (const ArmPlan& arm : experiment_.plan.arms) {
      ASSIGN_OR_RETURN(Seating seating, Seat(arm.name, arm.request, fleet_, library_, bytes_));
      known_.emplace(KeyOf(seating, arm.request), arm.name);
      names_.insert(arm.name);
      declared_.push_back({arm.name, arm.request, std::move(seating)});
    }
    for (const GeneratedArm& arm : out_->arms) names_.insert(arm.arm.name());
    const auto& rivals = experiment_.file.rival();
    rivals_.assign(rivals.begin(), rivals.end());
    const std::vector<std::string> members = fleet_.MemberNames();
    for (const std::string& rival : rivals_) {
      if (std::find(members.begin(), members.end(), rival) != members.end()) continue;
      const std::string_view near = Nearest(rival, members);
      return InvalidArgument("{}: rival \"{}\" is no member of {}{}", experiment_.path, rival, fleet_.path,
                             near.empty() ? std::string() : fmt::format("; is \"{}\" meant?", near));
    }
    if (!rivals_.empty()) return absl::OkStatus();
    for (const auto& member : fleet_.fleet.member()) {
      if (member.card().kind() == "moe") rivals_.push_back(member.name());
    }
    return absl::OkStatus();
  }

  absl::Status Make() {
    for (const Declared& arm : declared_) {
      if (!arm.seating.IsEnsemble()) continue;
      RETURN_IF_ERROR(AddBest(arm));
      RETURN_IF_ERROR(AddRivals(arm));
      RETURN_IF_ERROR(AddPlainVote(arm));
      RETURN_IF_ERROR(AddRemovals(arm));
      Record(arm, Baseline::ORACLE, "", "", "");
    }
    if (out_->arms.size() <= kGeneratedArmsMax) return absl::OkStatus();
    return InvalidArgument(
        "{}: its arms come to {} baselines, at most {} are allowed; declare fewer arms of several members, or add "
        "baselines: false",
        experiment_.path, out_->arms.size(), kGeneratedArmsMax);
  }

  absl::Status MakeCurves(const std::map<std::string, double>& cost) {
    std::map<std::string, int32_t> wanted;  // subject -> samples
    for (const Baseline& record : out_->records) {
      const bool best = record.kind() == Baseline::BEST_MEMBER_CURVE;
      if ((!best && record.kind() != Baseline::RIVAL_CURVE) || record.subject().empty()) continue;
      int32_t& most = wanted[record.subject()];
      most = std::max(most, Affordable(record, cost));
    }
    std::map<std::string, std::pair<std::string, std::string>> made;  // subject -> arm, why not
    for (const auto& [subject, samples] : wanted) {
      ASSIGN_OR_RETURN(made[subject], AddCurve(subject, samples));
    }
    for (Baseline& record : out_->records) {
      const bool curve = record.kind() == Baseline::BEST_MEMBER_CURVE || record.kind() == Baseline::RIVAL_CURVE;
      if (!curve || record.subject().empty()) continue;
      record.set_arm(made[record.subject()].first);
      record.set_why_not(made[record.subject()].second);
    }
    return absl::OkStatus();
  }

 private:
  struct Declared {
    std::string name;
    deliberation::v1::RunRequest request;
    Seating seating;
  };

  void Record(const Declared& of, Baseline::Kind kind, const std::string& subject, const std::string& arm,
              const std::string& why_not) {
    Baseline& record = out_->records.emplace_back();
    record.set_of(of.name);
    record.set_kind(kind);
    record.set_subject(subject);
    record.set_arm(arm);
    record.set_why_not(why_not);
  }

  // Adds the arm unless there is one that does the same; returns its name.
  std::string Add(std::string name, const std::string& graph_name, Seating seating,
                  const deliberation::v1::RunRequest& request, bool in_no_file) {
    const std::string key = KeyOf(seating, request);
    if (const auto it = known_.find(key); it != known_.end()) return it->second;
    for (int copy = 2; names_.contains(name); ++copy) name = fmt::format("{} ({})", name, copy);
    names_.insert(name);
    known_.emplace(key, name);
    GeneratedArm& arm = out_->arms.emplace_back();
    arm.arm.set_name(name);
    arm.arm.set_generated(true);
    arm.arm.set_graph(in_no_file ? Slug(name) : graph_name);
    for (const auto& binding : request.bindings()) {
      auto* bind = arm.arm.add_bind();
      bind->set_name(binding.name());
      *bind->mutable_member() = binding.members();
    }
    if (request.has_sampling()) *arm.arm.mutable_sampling() = request.sampling();
    if (request.has_budget()) *arm.arm.mutable_budget() = request.budget();
    if (in_no_file) arm.graph = seating.graph;
    arm.seating = std::move(seating);
    return name;
  }

  // A shipped graph with its one seat filled.
  absl::StatusOr<std::string> AddShipped(const std::string& name, const std::string& graph, const std::string& seat,
                                         const std::vector<std::string>& members, const Declared& like) {
    deliberation::v1::RunRequest request;
    request.set_graph_name(graph);
    if (like.request.has_sampling()) *request.mutable_sampling() = like.request.sampling();
    Bind(seat, members, &request);
    ASSIGN_OR_RETURN(Seating seating, Seat(name, request, fleet_, library_, bytes_));
    return Add(name, graph, std::move(seating), request, false);
  }

  static void Bind(const std::string& seat, const std::vector<std::string>& members,
                   deliberation::v1::RunRequest* request) {
    auto* binding = request->add_bindings();
    binding->set_name(seat);
    binding->mutable_members()->Assign(members.begin(), members.end());
  }

  static std::string Once(const std::string& member, const Declared& like) {
    return like.request.has_sampling() ? fmt::format("{} once, sampled as {}", member, like.name)
                                       : fmt::format("{} once", member);
  }

  absl::Status AddBest(const Declared& of) {
    const deliberation::v1::Member* best = nullptr;
    const auto share = [](const deliberation::v1::Member& m) {
      return static_cast<double>(m.development().correct()) / static_cast<double>(m.development().total());
    };
    for (const auto& member : fleet_.fleet.member()) {
      const auto& who = of.seating.answerers;
      const bool answers = std::find(who.begin(), who.end(), member.name()) != who.end();
      const bool rival = std::find(rivals_.begin(), rivals_.end(), member.name()) != rivals_.end();
      if (!answers || rival || !member.has_development()) continue;
      if (best == nullptr || share(member) > share(*best)) best = &member;
    }
    if (best == nullptr) {
      const std::string why =
          "no member of it has results on a development split; add development { correct: .. total: .. } to members";
      Record(of, Baseline::BEST_MEMBER, "", "", why);
      Record(of, Baseline::BEST_MEMBER_CURVE, "", "", why);
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const std::string arm, AddShipped(Once(best->name(), of), "single", "solver", {best->name()}, of));
    Record(of, Baseline::BEST_MEMBER, best->name(), arm, "");
    Record(of, Baseline::BEST_MEMBER_CURVE, best->name(), "", "");
    return absl::OkStatus();
  }

  absl::Status AddRivals(const Declared& of) {
    if (rivals_.empty()) {
      const std::string why = "no rival is known; add rival: \"MEMBER\", or card { kind: \"moe\" } to a member";
      for (const auto kind : {Baseline::RIVAL, Baseline::RIVAL_CURVE, Baseline::RIVAL_IN_EVERY_SEAT}) {
        Record(of, kind, "", "", why);
      }
    }
    for (const std::string& rival : rivals_) {
      ASSIGN_OR_RETURN(const std::string once, AddShipped(Once(rival, of), "single", "solver", {rival}, of));
      Record(of, Baseline::RIVAL, rival, once, "");
      Record(of, Baseline::RIVAL_CURVE, rival, "", "");
      deliberation::v1::RunRequest request = of.request;
      request.clear_bindings();
      for (const std::string& seat : of.seating.graph->MemberNames()) Bind(seat, {rival}, &request);
      const std::string name = fmt::format("{} in every seat of {}", rival, of.name);
      ASSIGN_OR_RETURN(Seating seating, Seat(name, of.seating.graph, request, fleet_, bytes_));
      if (seating.bound.calls() == 1) {
        Record(of, Baseline::RIVAL_IN_EVERY_SEAT, rival, once, "");
        continue;
      }
      Record(of, Baseline::RIVAL_IN_EVERY_SEAT, rival,
             Add(name, of.request.graph_name(), std::move(seating), request, false), "");
    }
    return absl::OkStatus();
  }

  absl::Status AddPlainVote(const Declared& of) {
    if (!of.seating.talks && !of.seating.reads_weights) {
      Record(of, Baseline::PLAIN_VOTE, "", of.name, "");
      return absl::OkStatus();
    }
    if (of.seating.answerers.empty()) {
      Record(of, Baseline::PLAIN_VOTE, "", "", "nobody in its graph gives answers that can be counted");
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const std::string arm, AddShipped(fmt::format("plain vote of {}", of.name), "member_vote",
                                                       "dense/*", of.seating.answerers, of));
    Record(of, Baseline::PLAIN_VOTE, "", arm, "");
    return absl::OkStatus();
  }

  absl::Status AddRemovals(const Declared& of) {
    if (of.seating.roles.size() < 2) return absl::OkStatus();
    for (const std::string& role : of.seating.roles) {
      const std::string name = fmt::format("{} without {}", of.name, role);
      Removal removal = WithoutRole(of.seating.graph->proto(), role);
      removal.graph.set_name(Slug(name));
      removal.graph.set_description(
          fmt::format("{} without its role {}: without {}.", of.seating.graph->name(), role, Join(removal.nodes)));
      auto compiled = orchestrator::CompileGraph(removal.graph, RolesOf(*of.seating.graph));
      if (compiled.graph == nullptr) {
        Record(of, Baseline::WITHOUT_ROLE, role, "",
               fmt::format("nothing is left to run: {}", compiled.errors.front()));
        continue;
      }
      const auto& nodes = compiled.graph->nodes();
      if (std::none_of(nodes.begin(), nodes.end(), Answers)) {
        Record(of, Baseline::WITHOUT_ROLE, role, "", "nobody is left who answers");
        continue;
      }
      auto seating = Seat(name, compiled.graph, of.request, fleet_, bytes_);
      if (!seating.ok()) {
        Record(of, Baseline::WITHOUT_ROLE, role, "", std::string(Message(seating.status())));
        continue;
      }
      Record(of, Baseline::WITHOUT_ROLE, role, Add(name, "", *std::move(seating), of.request, true), "");
    }
    return absl::OkStatus();
  }

  // Samples that cost what the arm does, rounded up.
  int32_t Affordable(const Baseline& record, const std::map<std::string, double>& cost) const {
    const auto known = [&](const std::string& arm) {
      const auto it = cost.find(arm);
      return it == cost.end() ? 0.0 : it->second;
    };
    const auto kind = record.kind() == Baseline::BEST_MEMBER_CURVE ? Baseline::BEST_MEMBER : Baseline::RIVAL;
    double once = 0;
    for (const Baseline& other : out_->records) {
      if (other.of() == record.of() && other.kind() == kind && other.subject() == record.subject()) {
        once = known(other.arm());
      }
    }
    double times = known(record.of()) / once;
    if (!(once > 0) || !(times > 0)) {
      for (const Declared& arm : declared_) {
        if (arm.name == record.of()) times = static_cast<double>(arm.seating.bound.calls());
      }
    }
    return static_cast<int32_t>(std::clamp(std::ceil(times - 1e-9), 2.0, double{kCurveSamplesMax}));
  }

  // The samples that a recording has for every question; kCurveSamplesMax for members that can be asked.
  absl::StatusOr<int32_t> Recorded(const std::string& name) const {
    for (const auto& member : fleet_.fleet.member()) {
      if (member.name() != name || !member.has_recorded()) continue;
      const std::string model = member.recorded().model().empty() ? name : member.recorded().model();
      ASSIGN_OR_RETURN(const auto answers,
                       conclave::benchmark::RecordedAnswers::Load(member.recorded().path(), {.models = {model}}));
      uint32_t least = kCurveSamplesMax;
      for (const auto& item : experiment_.plan.items) least = std::min(least, answers.SampleCount(model, item.id));
      return static_cast<int32_t>(least);
    }
    return kCurveSamplesMax;
  }

  // The arm and "", or "" and why there is none.
  absl::StatusOr<std::pair<std::string, std::string>> AddCurve(const std::string& subject, int32_t samples) {
    ASSIGN_OR_RETURN(const int32_t recorded, Recorded(subject));
    if (recorded < 2) {
      return std::pair<std::string, std::string>{"", "only one answer of it to a question was recorded"};
    }
    samples = std::min(samples, recorded);
    ASSIGN_OR_RETURN(const auto shipped, library_.Find("self_consistency"));
    for (const Declared& arm : declared_) {
      const bool same = arm.seating.graph->name() == shipped->name() && arm.seating.members.size() == 1 &&
                        arm.seating.members[0] == subject && !arm.request.has_sampling();
      if (same && arm.seating.bound.calls() >= samples) return std::pair{arm.name, std::string()};
    }
    const std::string name = fmt::format("{} x{}", subject, samples);
    deliberation::v1::RunRequest request;
    Bind("solver", {subject}, &request);
    ASSIGN_OR_RETURN(Seating seating, Seat(name, WithSamples(*shipped, samples), request, fleet_, bytes_));
    return std::pair{Add(name, "", std::move(seating), request, true), std::string()};
  }

  const LoadedExperiment& experiment_;
  const orchestrator::LoadedFleet& fleet_;
  orchestrator::GraphLibrary& library_;
  Baselines* out_;
  const int64_t bytes_;
  std::vector<Declared> declared_;
  std::vector<std::string> rivals_;
  std::map<std::string, std::string> known_;  // key -> arm
  std::set<std::string> names_;
};

}  // namespace

absl::StatusOr<Baselines> MakeBaselines(const LoadedExperiment& experiment, const orchestrator::LoadedFleet& fleet,
                                        orchestrator::GraphLibrary& library) {
  Baselines baselines;
  Maker maker(experiment, fleet, library, &baselines);
  RETURN_IF_ERROR(maker.Open());
  RETURN_IF_ERROR(maker.Make());
  return baselines;
}

absl::Status AddCurves(const LoadedExperiment& experiment, const orchestrator::LoadedFleet& fleet,
                       orchestrator::GraphLibrary& library, const std::map<std::string, double>& cost,
                       Baselines* baselines) {
  Maker maker(experiment, fleet, library, baselines);
  RETURN_IF_ERROR(maker.Open());
  return maker.MakeCurves(cost);
}

}  // namespace conclave::experiment
