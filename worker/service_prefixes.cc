// SPDX-License-Identifier: Apache-2.0
// Service's prefixes: pinned, gone on from, renewed, released.
#include <utility>

#include "common/status.h"
#include "protos/rpc_calls.h"
#include "protos/rpc_status.h"
#include "worker/convert.h"
#include "worker/limits.h"
#include "worker/service.h"
#include "worker/validate.h"

namespace conclave::worker {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

template <typename Request>
int64_t LeaseNs(const Request& request) {
  if (!request.has_lease()) return kPrefixLeaseSecondsDefault * kNsPerSecond;
  return request.lease().seconds() * kNsPerSecond + request.lease().nanos();
}

pb::PinPrefixResponse ToResponse(const engine::PinResult& result, std::string id) {
  pb::PinPrefixResponse out;
  out.set_prefix_id(std::move(id));
  out.set_token_count(result.tokens);
  out.set_kv_block_count(result.pages);
  *out.mutable_usage() = ToProto(result.usage);
  return out;
}

}  // namespace

grpc::ServerUnaryReactor* Service::PinPrefix(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const auto fail = [reactor, reply](const absl::Status& status) {
    rpc::Finish(reactor, status, pb::PinPrefixResponse(), reply);
  };
  const auto run = [this, reactor, reply, fail, copy = *bytes] {
    pb::PinPrefixRequest request;
    engine::PinRequest prepared;
    absl::Status status = rpc::Parse(copy, &request);
    if (status.ok()) status = PreparePin(request, &prepared);
    if (status.ok()) status = prefixes_->Reserve();
    if (!status.ok()) return fail(status);
    PinnedPrefix pinned;
    pinned.tokens = std::make_shared<const std::vector<engine::TokenId>>(prepared.prompt);
    pinned.cache_salt = prepared.cache_salt;
    // Runs on the step thread, perhaps when the service is gone; host, clock and table are not.
    auto done = [reactor, reply, fail, pinned, host = host_, clock = options_.clock, table = prefixes_,
                 lease_ns = LeaseNs(request)](absl::StatusOr<engine::PinResult> result) mutable {
      if (!result.ok()) {
        table->Forgo();
        return fail(result.status());
      }
      pinned.pin = result->id;
      std::optional<std::string> id = table->Add(std::move(pinned), clock->NowNs() + lease_ns);
      if (!id.has_value()) {
        host->Unpin(result->id);
        return fail(rpc::WithReason(Unavailable("this worker began to drain; ask another one"), "DRAINING"));
      }
      rpc::Finish(reactor, absl::OkStatus(), ToResponse(*result, *std::move(id)), reply);
    };
    status = host_->Pin(std::move(prepared), std::move(done));
    if (status.ok()) return;
    prefixes_->Forgo();
    fail(FromEngine(status));
  };
  const absl::Status taken = Take(*bytes, run);
  if (!taken.ok()) fail(taken);
  return reactor;
}

absl::Status Service::PreparePin(const pb::PinPrefixRequest& request, engine::PinRequest* prepared) const {
  const engine::ModelInfo& info = host_->info();
  RETURN_IF_ERROR(CheckModel(request.model()));
  RETURN_IF_ERROR(Validate(request, info.vocab));
  ASSIGN_OR_RETURN(prepared->routing, ToEngine(request.routing(), info));
  prepared->cache_salt = request.cache_salt();
  ASSIGN_OR_RETURN(TokenizedPrompt prompt,
                   TokenizePrompt(request.prompt(), ModelHost::TextPart::kWhole, request.cache_salt()));
  prepared->prompt = std::move(prompt.tokens);
  return CheckFits(static_cast<int64_t>(prepared->prompt.size()), 0);
}

absl::StatusOr<std::vector<engine::TokenId>> Service::TokensOfPrefix(const pb::PrefixPrompt& prefix,
                                                                     std::string_view cache_salt) const {
  ASSIGN_OR_RETURN(const PinnedPrefix pinned, prefixes_->Find(prefix.prefix_id(), cache_salt, options_.clock->NowNs()));
  std::vector<engine::TokenId> tokens = *pinned.tokens;
  if (prefix.has_text()) {
    ASSIGN_OR_RETURN(const std::vector<engine::TokenId> rest,
                     host_->Tokenize(prefix.text(), ModelHost::TextPart::kContinuation));
    tokens.insert(tokens.end(), rest.begin(), rest.end());
  }
  const auto& ids = prefix.token_ids().ids();
  tokens.insert(tokens.end(), ids.begin(), ids.end());
  return tokens;
}

grpc::ServerUnaryReactor* Service::RenewPrefixes(Context* context, const grpc::ByteBuffer* bytes,
                                                 grpc::ByteBuffer* reply) {
  using Response = pb::RenewPrefixesResponse;
  return rpc::AnswerHere<pb::RenewPrefixesRequest, Response>(
      context, *bytes, reply, [this](const pb::RenewPrefixesRequest& request, Response* response) {
        RETURN_IF_ERROR(Validate(request));
        const int64_t now_ns = options_.clock->NowNs();
        for (const std::string& id : request.prefix_ids()) {
          response->add_outcomes(prefixes_->Renew(id, now_ns, now_ns + LeaseNs(request))
                                     ? Response::OUTCOME_RENEWED
                                     : Response::OUTCOME_NOT_PINNED);
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* Service::ReleasePrefixes(Context* context, const grpc::ByteBuffer* bytes,
                                                   grpc::ByteBuffer* reply) {
  using Response = pb::ReleasePrefixesResponse;
  return rpc::AnswerHere<pb::ReleasePrefixesRequest, Response>(
      context, *bytes, reply, [this](const pb::ReleasePrefixesRequest& request, Response* response) {
        RETURN_IF_ERROR(Validate(request));
        for (const std::string& id : request.prefix_ids()) {
          const std::optional<engine::PinId> pin = prefixes_->Remove(id);
          if (pin.has_value()) host_->Unpin(*pin);
          response->add_outcomes(pin.has_value() ? Response::OUTCOME_RELEASED : Response::OUTCOME_NOT_PINNED);
        }
        return absl::OkStatus();
      });
}

}  // namespace conclave::worker
