// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/simulation/sim_fleet.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/simulation/sim_call.h"

namespace conclave::orchestrator {

namespace pb = ::conclave::inference::v1;

namespace {

// A silent connection is given up; later than the lease is over, which must not depend on it.
constexpr int64_t kKeepaliveNs = 30 * kSimSecond;
constexpr int64_t kAskTimeoutNs = 2 * kSimSecond;
constexpr int64_t kTokenNs = 8 * kSimMs;
// A worker that hears nothing more of a caller notices after so long, at most.
constexpr int64_t kWorkerKeepaliveNs = 40 * kSimSecond;

int64_t CountPromptTokens(const CallRequest& request) {
  int64_t bytes = 0;
  for (const auto& message : request.prompt) bytes += static_cast<int64_t>(message.content().size());
  return bytes / 4 + 1;
}

pb::Model SimModel() {
  pb::Model model;
  model.set_revision("simulated");
  model.set_flops_per_token(1000);
  return model;
}

// A token's id is its place in the text.
size_t ContinuedTokens(const CallRequest& request) {
  return request.partial == nullptr ? 0 : static_cast<size_t>(request.partial->token_ids_size());
}

}  // namespace

std::vector<std::string> SimTokens(const std::vector<deliberation::v1::PromptMessage>& prompt, uint64_t seed,
                                   int32_t max_output_tokens) {
  uint64_t h = seed;
  for (const auto& message : prompt) h = Mix64(h ^ Fnv1a64(message.content()));
  std::vector<std::string> tokens;
  for (uint64_t i = 0; i < h % 7; ++i) tokens.push_back(fmt::format("w{} ", Mix64(h + i) % 100));
  if (h % 5 != 0) {
    tokens.push_back(h % 3 == 0 ? "\nVERDICT: reject" : "\nVERDICT: accept");
    tokens.emplace_back("\n#### ");
    tokens.push_back(std::to_string(40 + (h >> 8) % 3));
  }
  if (static_cast<int64_t>(tokens.size()) > max_output_tokens) tokens.resize(static_cast<size_t>(max_output_tokens));
  if (tokens.empty()) tokens.emplace_back("hm");
  return tokens;
}

class SimTransport final : public WorkerTransport {
 public:
  explicit SimTransport(SimFleet* fleet) : fleet_(fleet) {}

  std::shared_ptr<WorkerCall> MakeCall(int32_t worker, WorkerCall::Start start) override {
    return std::make_shared<SimCall>(fleet_, worker, std::move(start));
  }
  void GetModel(int32_t worker, std::function<void(const absl::Status&, const pb::GetModelResponse&)> done) override {
    Ask(worker, [this, worker, done = std::move(done)](const absl::Status& status) {
      pb::GetModelResponse response;
      response.set_instance_id(fleet_->InstanceOf(worker));
      *response.mutable_model() = SimModel();
      done(status, response);
    });
  }
  void GetLoad(int32_t worker, std::function<void(const absl::Status&, const pb::GetLoadResponse&)> done) override {
    Ask(worker, [this, worker, done = std::move(done)](const absl::Status& status) {
      pb::GetLoadResponse response;
      SimFleet::Worker& w = fleet_->worker(worker);
      if (status.ok() && !w.streams.empty()) ++w.steps;  // a slow one does something, too
      response.set_running_count(static_cast<int32_t>(w.streams.size()));
      response.set_step_count(w.steps);
      done(status, response);
    });
  }

  void CancelRequests(int32_t worker, const std::vector<std::string>& request_ids,
                      std::function<void(const absl::Status&)> done) override {
    Ask(worker, std::move(done), [fleet = fleet_, worker, request_ids] {
      for (const std::string& id : request_ids) fleet->CancelRequest(worker, id);
    });
  }

  void EndAsking() override {
    while (!fleet_->asks_.empty()) fleet_->EndAsk(fleet_->asks_.begin()->first, Cancelled("asking has ended"));
  }

 private:
  // `there` happens at the worker, when it is asked.
  void Ask(
      int32_t worker, SimFleet::Reply reply, std::function<void()> there = [] {}) {
    const int64_t number = fleet_->next_call_++;
    fleet_->asks_[number] = std::move(reply);
    fleet_->ToWorker(
        worker,
        [fleet = fleet_, worker, number, there = std::move(there)] {
          there();
          int64_t last_ns = 0;
          fleet->FromWorker(worker, &last_ns, [fleet, worker, number] {
            if (fleet->asks_.contains(number)) fleet->worker(worker).delivered_ns = fleet->world_->now_ns();
            fleet->EndAsk(number, absl::OkStatus());
          });
        },
        [] {});
    fleet_->world_->After(kAskTimeoutNs, [fleet = fleet_, number] {
      fleet->EndAsk(number, MakeStatus(absl::StatusCode::kDeadlineExceeded, "no answer"));
    });
  }

  SimFleet* const fleet_;
};

SimFleet::SimFleet(SimWorld* world, int32_t workers) : world_(world), workers_(static_cast<size_t>(workers)) {}
SimFleet::~SimFleet() = default;

std::unique_ptr<WorkerTransport> SimFleet::Connect() { return std::make_unique<SimTransport>(this); }

void SimFleet::EndAsk(int64_t number, const absl::Status& status) {
  const auto found = asks_.find(number);
  if (found == asks_.end()) return;
  const Reply reply = std::move(found->second);
  asks_.erase(found);
  reply(status);
}

void SimFleet::Disconnect() {
  for (int32_t i = 0; i < size(); ++i) {
    for (auto& [number, stream] : worker(i).streams) stream.call = nullptr;
    DropOrphans(i);
  }
  for (const auto& [number, call] : std::exchange(calls_, {})) {
    if (const auto held = call.lock()) held->End(Cancelled("the connection is gone"), std::nullopt);
  }
  while (!asks_.empty()) EndAsk(asks_.begin()->first, Cancelled("the connection is gone"));
}

std::string SimFleet::InstanceOf(int32_t index) const {
  return fmt::format("w{}.{}", index, workers_[static_cast<size_t>(index)].incarnation);
}

int32_t SimFleet::running() const {
  size_t running = 0;
  for (const Worker& w : workers_) running += w.streams.size();
  return static_cast<int32_t>(running);
}

int32_t SimFleet::waited_for_in_vain(int64_t silence_ns) const {
  int32_t count = 0;
  for (const auto& [number, weak] : calls_) {
    const std::shared_ptr<SimCall> call = weak.lock();
    if (call == nullptr) continue;
    const Worker& w = workers_[static_cast<size_t>(call->worker())];
    const bool silent = world_->now_ns() < SilentUntil(w);
    count += silent && world_->now_ns() - std::max(w.silent_since_ns, w.heard_ns) > silence_ns ? 1 : 0;
  }
  return count;
}

int32_t SimFleet::worked_on_in_vain(int64_t grace_ns) const {
  int32_t count = 0;
  const int64_t before_ns = world_->now_ns() - grace_ns;
  for (const Worker& w : workers_) {
    if (SilentUntil(w) > before_ns) continue;
    for (const auto& [number, stream] : w.streams) {
      count += stream.call != nullptr && stream.call->ended() && stream.call->ended_ns() < before_ns ? 1 : 0;
    }
  }
  return count;
}

int64_t SimFleet::SilenceOf(std::string_view instance_id) const {
  for (int32_t i = 0; i < size(); ++i) {
    if (InstanceOf(i) == instance_id) return world_->now_ns() - workers_[static_cast<size_t>(i)].delivered_ns;
  }
  return std::numeric_limits<int64_t>::max();  // it is gone
}

// ---- Messages

void SimFleet::ToWorker(int32_t index, std::function<void()> what, std::function<void()> lost) {
  const int64_t incarnation = worker(index).incarnation;
  world_->After(Latency(), [=, this] {
    const Worker& w = worker(index);
    const int64_t silent_until = SilentUntil(w);
    if (!w.alive || w.incarnation != incarnation) return lost();
    if (world_->now_ns() >= silent_until) return what();
    // What is sent now gets through when the silence ends, unless the connection has been given up before.
    if (world_->now_ns() >= w.silent_since_ns + kKeepaliveNs) return lost();
    world_->After(silent_until - world_->now_ns(),
                  [=, this] { worker(index).incarnation == incarnation&& worker(index).alive ? what() : lost(); });
  });
}

void SimFleet::FromWorker(int32_t index, int64_t* last_ns, std::function<void()> what) {
  *last_ns = std::max({*last_ns, world_->now_ns() + Latency(), worker(index).cut_off_until_ns});
  world_->After(*last_ns - world_->now_ns(), [this, index, what = std::move(what)] {
    worker(index).heard_ns = world_->now_ns();
    what();
  });
}

// ---- Work

void SimFleet::Admit(int32_t index, std::shared_ptr<SimCall> call) {
  if (call->ended()) return;  // with its connection, before the worker looked
  Worker& w = worker(index);
  if (world_->now_ns() < w.full_until_ns) {
    const absl::Status full =
        rpc::WithRetryDelay(ResourceExhausted("OVERLOADED: simulated"), world_->Between(5, 200) * kSimMs);
    return FromWorker(index, call->last_ns(), [call, full] { call->End(full, std::nullopt); });
  }
  const CallRequest& request = call->start().request;
  const int64_t number = next_stream_++;
  Stream& stream = w.streams[number];
  stream.call = call;
  stream.request_id = call->start().request_id;
  stream.output_tokens_max = request.sampling.max_output_tokens();
  stream.tokens = SimTokens(request.prompt, request.seed, stream.output_tokens_max);
  stream.begun = stream.next = ContinuedTokens(request);
  stream.prompt_tokens = CountPromptTokens(request) + static_cast<int64_t>(stream.next);
  FromWorker(index, call->last_ns(), [call, tokens = stream.prompt_tokens] { call->OnStarted(tokens); });
  world_->After(world_->Between(5, 60) * kSimMs * Times(w),
                [this, index, number, incarnation = w.incarnation] { Advance(index, number, incarnation); });
}

void SimFleet::Advance(int32_t index, int64_t number, int64_t incarnation) {
  Worker& w = worker(index);
  const auto found = w.streams.find(number);
  if (w.incarnation != incarnation || found == w.streams.end()) return;
  const auto again = [this, index, number, incarnation] { Advance(index, number, incarnation); };
  if (world_->now_ns() < w.frozen_until_ns) return world_->After(w.frozen_until_ns - world_->now_ns(), again);
  Stream& stream = found->second;
  if (stream.next >= stream.tokens.size()) return EndStream(index, number, absl::OkStatus());
  ++w.steps;
  ++tokens_made_;
  const std::string& token = stream.tokens[stream.next++];
  if (stream.call != nullptr) {
    FromWorker(index, stream.call->last_ns(), [call = stream.call, token] { call->OnToken(token); });
  }
  if (stream.next == stream.tokens.size()) return EndStream(index, number, absl::OkStatus());
  world_->After(kTokenNs * Times(w), again);
}

void SimFleet::EndStream(int32_t index, int64_t number, const absl::Status& status) {
  const auto found = worker(index).streams.find(number);
  const Stream stream = std::move(found->second);
  worker(index).streams.erase(found);
  if (stream.call == nullptr) return;
  pb::Usage usage;
  usage.set_prompt_token_count(stream.prompt_tokens);
  usage.set_output_token_count(static_cast<int64_t>(stream.next - stream.begun));
  usage.set_flop_count(1000 * static_cast<int64_t>(stream.next - stream.begun));
  const bool whole = static_cast<int64_t>(stream.tokens.size()) < stream.output_tokens_max;
  FromWorker(index, stream.call->last_ns(),
             [call = stream.call, status, usage, whole] { call->End(status, usage, whole); });
}

void SimFleet::CancelRequest(int32_t index, const std::string& request_id) {
  for (const auto& [number, stream] : worker(index).streams) {
    if (stream.request_id == request_id) return EndStream(index, number, Cancelled("cancelled"));
  }
}

// Ends what nobody listens to, as soon as the worker notices.
void SimFleet::DropOrphans(int32_t index) {
  Worker& w = worker(index);
  const int64_t silent_until = SilentUntil(w);
  if (world_->now_ns() < silent_until) {
    return world_->After(silent_until - world_->now_ns(), [this, index] { DropOrphans(index); });
  }
  std::erase_if(w.streams, [](const auto& entry) { return entry.second.call == nullptr; });
}

// The connection is gone for the caller, and nobody told the worker: it notices at last.
void SimFleet::DropEnded(int32_t index, int64_t incarnation) {
  Worker& w = worker(index);
  if (w.incarnation != incarnation) return;
  if (const int64_t silent_until = SilentUntil(w); world_->now_ns() < silent_until) {
    return world_->After(silent_until + world_->Between(0, kWorkerKeepaliveNs) - world_->now_ns(),
                         [this, index, incarnation] { DropEnded(index, incarnation); });
  }
  std::erase_if(w.streams, [](const auto& e) { return e.second.call != nullptr && e.second.call->ended(); });
}

// ---- Faults

void SimFleet::Kill(int32_t index, int64_t back_after_ns) {
  Worker& w = worker(index);
  if (!w.alive) return;
  w.alive = false;
  ++w.incarnation;
  w.streams.clear();
  w.frozen_until_ns = w.slow_until_ns = w.full_until_ns = 0;
  for (const auto& [number, weak] : calls_) {
    const std::shared_ptr<SimCall> call = weak.lock();
    if (call == nullptr || call->worker() != index) continue;
    FromWorker(index, call->last_ns(), [call] { call->End(Unavailable("connection reset"), std::nullopt); });
  }
  world_->After(back_after_ns, [this, index] { worker(index).alive = true; });
}

void SimFleet::Silence(int32_t index) {
  Worker& w = worker(index);
  if (world_->now_ns() >= SilentUntil(w)) w.silent_since_ns = world_->now_ns();
  world_->After(kKeepaliveNs, [this, index, incarnation = w.incarnation] {
    const Worker& now = worker(index);
    if (now.incarnation != incarnation || world_->now_ns() >= SilentUntil(now)) return;
    const std::map<int64_t, std::weak_ptr<SimCall>> calls = calls_;
    for (const auto& [number, weak] : calls) {
      const std::shared_ptr<SimCall> call = weak.lock();
      if (call != nullptr && call->worker() == index) call->End(Unavailable("keepalive watchdog"), std::nullopt);
    }
    DropEnded(index, incarnation);
  });
}

void SimFleet::Freeze(int32_t index, int64_t for_ns) {
  Silence(index);
  worker(index).frozen_until_ns = std::max(worker(index).frozen_until_ns, world_->now_ns() + for_ns);
}

void SimFleet::CutOff(int32_t index, int64_t for_ns) {
  Silence(index);
  worker(index).cut_off_until_ns = std::max(worker(index).cut_off_until_ns, world_->now_ns() + for_ns);
}

void SimFleet::SlowDown(int32_t index, int64_t times, int64_t for_ns) {
  worker(index).slow_times = times;
  worker(index).slow_until_ns = world_->now_ns() + for_ns;
}
void SimFleet::Overload(int32_t index, int64_t for_ns) { worker(index).full_until_ns = world_->now_ns() + for_ns; }

}  // namespace conclave::orchestrator
