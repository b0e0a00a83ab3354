// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/fleet/fleet_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/http/http_client.h"
#include "orchestrator/pick/confidence.h"
#include "protos/rpc_endpoint.h"
#include "protos/textproto.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::DevelopmentWeights;
using deliberation::v1::Fleet;
using deliberation::v1::LocalModel;
using deliberation::v1::Member;
using deliberation::v1::OpenAi;

constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@/-";

class FleetCheck {
 public:
  FleetCheck(const Fleet& fleet, const FieldLines& lines, std::string path)
      : fleet_(fleet), lines_(lines), path_(std::move(path)) {}

  absl::Status Run() {
    if (fleet_.member_size() == 0)
      Add(lines_.line(), "has no member; add member {{ name: \"a\" model {{ path: \"model.gguf\" }} }}");
    if (fleet_.member_size() > kFleetMembersMax) {
      Add(lines_.line(), "has {} members, at most {} are allowed", fleet_.member_size(), kFleetMembersMax);
    }
    for (int i = 0; i < fleet_.member_size(); ++i) CheckMember(fleet_.member(i), lines_.LineOf(fleet_, "member", i));
    for (int i = 0; i < fleet_.bind_size(); ++i) CheckBind(i);
    CheckWeights();
    CheckWorkerTls();
    return text_.empty() ? absl::OkStatus() : MakeStatus(absl::StatusCode::kInvalidArgument, text_);
  }

 private:
  template <typename... Args>
  void Add(int line, fmt::format_string<Args...> format, Args&&... args) {
    const std::string place = line > 0 ? fmt::format("{}:{}", path_, line) : path_;
    text_ +=
        fmt::format("{}{}: {}", text_.empty() ? "" : "\n", place, fmt::format(format, std::forward<Args>(args)...));
  }

  void CheckMember(const Member& member, int line) {
    const std::string& name = member.name();
    if (name.empty() || name.size() > kMemberNameMax || name.find_first_not_of(kNameCharacters) != name.npos) {
      Add(line, "member name is \"{}\"; 1 to {} of A-Z a-z 0-9 _ . @ / - are needed", name, kMemberNameMax);
    } else if (!names_.insert(name).second) {
      Add(line, "member \"{}\": another member has this name", name);
    }
    switch (member.source_case()) {
      case Member::SOURCE_NOT_SET:
        Add(line, "member \"{}\": says not where answers come from; add model, worker_address, recorded or openai",
            name);
        break;
      case Member::kModel:
        CheckModel(member.model(), name, line);
        break;
      case Member::kWorkerAddress:
        if (member.worker_address().find(':') == std::string::npos) {
          Add(line, "member \"{}\": worker_address is \"{}\"; host:port is needed", name, member.worker_address());
        }
        break;
      case Member::kRecorded:
        if (member.recorded().path().empty()) Add(line, "member \"{}\": recorded needs a path", name);
        break;
      case Member::kOpenai:
        CheckOpenAi(member.openai(), name, line);
        break;
    }
    if (member.has_weight() && !(member.weight() >= 0 && member.weight() <= 1e6)) {
      Add(line, "member \"{}\": weight is {}; 0 to 1,000,000 is allowed", name, member.weight());
    }
    const auto& record = member.development();
    if (member.has_development() && (record.total() < 1 || record.correct() < 0 || record.correct() > record.total())) {
      Add(line, "member \"{}\": development is {} right of {}; 0 to all of at least 1 are allowed", name,
          record.correct(), record.total());
    }
    const auto& price = member.card().price();
    if (member.card().has_price() && (price.currency() != "USD" || !(price.input() >= 0) || !(price.output() >= 0))) {
      Add(line, "member \"{}\": price is {} and {} \"{}\"; 0 or more \"USD\" per million tokens is needed", name,
          price.input(), price.output(), price.currency());
    }
    const std::string& kind = member.card().kind();
    if (!kind.empty() && kind != "dense" && kind != "moe") {
      Add(line, "member \"{}\": card kind is \"{}\"; \"dense\" or \"moe\" is needed", name, kind);
    }
  }

  void CheckWeights() {
    const DevelopmentWeights& rule = fleet_.development_weights();
    const int line = lines_.LineOf(fleet_, "development_weights");
    if (rule.has_answers() && rule.answers() < 2) {
      Add(line, "development_weights: answers is {}; a question has 2 or more", rule.answers());
    }
    if (rule.has_shrink() && !(rule.shrink() >= 0 && rule.shrink() <= 1e9)) {
      Add(line, "development_weights: shrink is {}; 0 to 1e9 questions are allowed", rule.shrink());
    }
    if (rule.has_clip() && !(rule.clip() > 0 && rule.clip() < 0.5)) {
      Add(line, "development_weights: clip is {}; it must be above 0 and below 0.5", rule.clip());
    }
  }

  void CheckWorkerTls() {
    if (!fleet_.has_worker_tls()) return;
    const auto& tls = fleet_.worker_tls();
    const int line = lines_.LineOf(fleet_, "worker_tls");
    if (tls.authorities().empty()) Add(line, "worker_tls: names no authorities; name the PEM file to trust workers by");
    if (tls.certificate().empty() != tls.key().empty()) {
      Add(line, "worker_tls: certificate is \"{}\" and key is \"{}\"; both or neither are needed", tls.certificate(),
          tls.key());
    }
    const bool used = std::any_of(fleet_.member().begin(), fleet_.member().end(),
                                  [](const Member& member) { return member.has_worker_address(); });
    if (!used) Add(line, "worker_tls: no member has a worker_address; workers that the fleet starts need none");
  }

  void CheckRange(const std::string& member, int line, std::string_view field, int64_t value, int64_t max) {
    if (value < 1 || value > max) Add(line, "member \"{}\": {} is {}; 1 to {} are allowed", member, field, value, max);
  }

  void CheckModel(const LocalModel& model, const std::string& name, int line) {
    if (model.path().empty()) Add(line, "member \"{}\": model needs a path", name);
    if (!model.device().empty() && model.device() != "cpu" && model.device() != "cuda") {
      Add(line, "member \"{}\": device is \"{}\"; known: cpu, cuda", name, model.device());
    }
    static const std::set<std::string> kernels = {"", "auto", "reference", "scalar", "avx2", "avx512"};
    if (!kernels.contains(model.kernel())) {
      Add(line, "member \"{}\": kernel is \"{}\"; known: auto, reference, scalar, avx2, avx512", name, model.kernel());
    }
    if (model.has_threads()) CheckRange(name, line, "threads", model.threads(), kThreadsMax);
    if (model.has_replicas()) CheckRange(name, line, "replicas", model.replicas(), kReplicasMax);
    if (model.has_ranks()) CheckRange(name, line, "ranks", model.ranks(), kRanksMax);
    if (model.has_context_tokens()) CheckRange(name, line, "context_tokens", model.context_tokens(), kContextTokensMax);
    if (model.has_sequences()) CheckRange(name, line, "sequences", model.sequences(), kSequencesMax);
    if (model.device() == "cuda" && model.ranks() > 1) {
      Add(line, "member \"{}\": ranks is {}; models are split over ranks on CPUs only", name, model.ranks());
    }
    if (model.has_kv_bytes() && model.kv_bytes() < 1 << 20) {
      Add(line, "member \"{}\": kv_bytes is {}; at least 1 MiB is needed", name, model.kv_bytes());
    }
  }

  void CheckOpenAi(const OpenAi& openai, const std::string& name, int line) {
    if (const auto url = http::ParseUrl(openai.url()); !url.ok()) {
      Add(line, "member \"{}\": {}", name, Message(url.status()));
    } else if (!url->tls && !openai.api_key_env().empty() && !rpc::IsLoopback({url->host, url->port})) {
      Add(line, "member \"{}\": {} would carry its key in plaintext over a network; use https", name, openai.url());
    }
    if (openai.has_parallel_calls() && (openai.parallel_calls() < 1 || openai.parallel_calls() > kParallelCallsMax)) {
      Add(line, "member \"{}\": parallel_calls is {}; 1 to {} are allowed", name, openai.parallel_calls(),
          kParallelCallsMax);
    }
    std::set<int> seen;
    for (const int capability : openai.capability()) {
      if (capability == OpenAi::CAPABILITY_UNSPECIFIED) Add(line, "member \"{}\": capability is unspecified", name);
      if (!seen.insert(capability).second) {
        Add(line, "member \"{}\": capability {} is there twice", name,
            OpenAi::Capability_Name(static_cast<OpenAi::Capability>(capability)));
      }
    }
  }

  void CheckBind(int i) {
    const auto& bind = fleet_.bind(i);
    const int line = lines_.LineOf(fleet_, "bind", i);
    if (bind.name().empty()) Add(line, "bind needs a name, as graphs write it, e.g. \"planner\" or \"dense/*\"");
    if (bind.member_size() == 0) Add(line, "bind \"{}\": names no member", bind.name());
    for (const std::string& pattern : bind.member()) {
      const bool matches = std::any_of(fleet_.member().begin(), fleet_.member().end(),
                                       [&](const Member& member) { return GlobMatches(pattern, member.name()); });
      if (matches) continue;
      std::vector<std::string> names(names_.begin(), names_.end());
      const std::string_view near = Nearest(pattern, names);
      Add(line, "bind \"{}\": \"{}\" is no member{}", bind.name(), pattern,
          near.empty() ? fmt::format("; members: {}", fmt::join(names, ", "))
                       : fmt::format("; is \"{}\" meant?", near));
    }
  }

  const Fleet& fleet_;
  const FieldLines lines_;
  const std::string path_;
  std::string text_;
  std::set<std::string> names_;
};

std::string Resolve(const std::string& path, const std::string& directory, const std::string& home) {
  if (path.starts_with("~/")) return home + path.substr(1);
  if (path.empty() || path.starts_with("/") || directory.empty()) return path;
  return (std::filesystem::path(directory) / path).lexically_normal().string();
}

void ResolvePaths(const std::string& directory, const std::string& home, Fleet* fleet) {
  for (Member& member : *fleet->mutable_member()) {
    if (member.has_model()) member.mutable_model()->set_path(Resolve(member.model().path(), directory, home));
    if (member.has_recorded()) member.mutable_recorded()->set_path(Resolve(member.recorded().path(), directory, home));
    if (!member.development().path().empty()) {
      member.mutable_development()->set_path(Resolve(member.development().path(), directory, home));
    }
  }
  for (Member& member : *fleet->mutable_member()) {
    if (!member.has_openai()) continue;
    auto* authorities = member.mutable_openai()->mutable_authorities();
    *authorities = Resolve(*authorities, directory, home);
  }
  if (fleet->has_worker_tls()) {
    auto* tls = fleet->mutable_worker_tls();
    for (std::string* file : {tls->mutable_authorities(), tls->mutable_certificate(), tls->mutable_key()}) {
      *file = Resolve(*file, directory, home);
    }
  }
  auto* store = fleet->mutable_orchestrator()->mutable_store();
  *store = Resolve(*store, directory, home);
}

// Weights of members that say how they did on a development split and have none of their own.
void WeighMembers(Fleet* fleet) {
  std::vector<Member*> members;
  std::vector<Record> records;
  for (Member& member : *fleet->mutable_member()) {
    if (!member.has_development()) continue;
    members.push_back(&member);
    records.push_back({member.development().correct(), member.development().total()});
  }
  const DevelopmentWeights& rule = fleet->development_weights();
  const std::vector<double> weights =
      LogOddsWeights(records, rule.has_answers() ? rule.answers() : 2, rule.has_shrink() ? rule.shrink() : 10.0,
                     rule.has_clip() ? rule.clip() : 0.02);
  for (size_t i = 0; i < members.size(); ++i) {
    if (!members[i]->has_weight()) members[i]->set_weight(weights[i]);
  }
}

}  // namespace

std::vector<deliberation::v1::Binding> LoadedFleet::Bindings() const {
  std::vector<deliberation::v1::Binding> bindings;
  for (const auto& bind : fleet.bind()) {
    auto& binding = bindings.emplace_back();
    binding.set_name(bind.name());
    *binding.mutable_members() = bind.member();
  }
  return bindings;
}

std::vector<std::string> LoadedFleet::MemberNames() const {
  std::vector<std::string> names;
  for (const Member& member : fleet.member()) names.push_back(member.name());
  return names;
}

absl::StatusOr<LoadedFleet> CheckFleet(Fleet fleet, const std::string& path, const std::string& directory,
                                       const std::string& home) {
  RETURN_IF_ERROR(FleetCheck(fleet, FieldLines(), path).Run());
  ResolvePaths(directory, home, &fleet);
  WeighMembers(&fleet);
  return LoadedFleet{.fleet = std::move(fleet), .path = path};
}

absl::StatusOr<LoadedFleet> LoadFleet(const std::string& path, const std::string& home) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kTextprotoBytesMax));
  Fleet fleet;
  const ParsedText parsed = ParseTextproto(text, &fleet);
  if (!parsed.errors.empty()) {
    std::string all;
    for (const TextError& error : parsed.errors)
      all += fmt::format("{}{}:{}: {}", all.empty() ? "" : "\n", path, error.line, error.message);
    return MakeStatus(absl::StatusCode::kInvalidArgument, all);
  }
  RETURN_IF_ERROR(FleetCheck(fleet, parsed.lines(), path).Run());
  ResolvePaths(std::filesystem::path(path).parent_path().string(), home, &fleet);
  WeighMembers(&fleet);
  return LoadedFleet{.fleet = std::move(fleet), .path = path};
}

}  // namespace conclave::orchestrator
