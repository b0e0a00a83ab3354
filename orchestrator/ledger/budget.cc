// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/ledger/budget.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::orchestrator {
namespace {

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + static_cast<double>(duration.nanos()) * 1e-9;
}

// A count as a worker reports it, within bounds that no sum of a run's calls can overflow.
int64_t Sane(int64_t count) { return std::clamp<int64_t>(count, 0, int64_t{1} << 46); }

}  // namespace

Amount& Amount::operator+=(const Amount& other) {
  calls += other.calls;
  prompt_tokens += other.prompt_tokens;
  output_tokens += other.output_tokens;
  flops += other.flops;
  return *this;
}

Amount& Amount::operator-=(const Amount& other) {
  calls -= other.calls;
  prompt_tokens -= other.prompt_tokens;
  output_tokens -= other.output_tokens;
  flops -= other.flops;
  return *this;
}

Amount AmountOf(const inference::v1::Usage& usage) {
  return {1, Sane(usage.prompt_token_count()), Sane(usage.output_token_count()),
          std::max(0.0, static_cast<double>(usage.flop_count()))};
}

absl::Status BudgetAccount::AddLimit(std::string name, const deliberation::v1::Budget& budget) {
  if (budget.calls() < 0 || budget.prompt_tokens() < 0 || budget.output_tokens() < 0 || budget.flops() < 0 ||
      std::isnan(budget.flops()) || Seconds(budget.wall_time()) < 0) {
    return InvalidArgument("budget \"{}\": limits are at least 0; leave out a unit that is not limited", name);
  }
  limits_.push_back({std::move(name), budget});
  return absl::OkStatus();
}

std::optional<Exhausted> BudgetAccount::Exceeded(const Amount& total) const {
  for (const Limit& limit : limits_) {
    const auto exceeded = [&](const char* unit, double at_most, double needed) {
      const bool fail = limit.budget.on_exhausted() != deliberation::v1::Budget::RETURN_BEST;
      return Exhausted{limit.name, unit, at_most, needed,
                       fail ? deliberation::v1::Budget::FAIL : deliberation::v1::Budget::RETURN_BEST};
    };
    const deliberation::v1::Budget& budget = limit.budget;
    if (budget.has_calls() && total.calls > budget.calls()) {
      return exceeded("calls", static_cast<double>(budget.calls()), static_cast<double>(total.calls));
    }
    if (budget.has_prompt_tokens() && total.prompt_tokens > budget.prompt_tokens()) {
      return exceeded("prompt_tokens", static_cast<double>(budget.prompt_tokens()),
                      static_cast<double>(total.prompt_tokens));
    }
    if (budget.has_output_tokens() && total.output_tokens > budget.output_tokens()) {
      return exceeded("output_tokens", static_cast<double>(budget.output_tokens()),
                      static_cast<double>(total.output_tokens));
    }
    if (budget.has_flops() && total.flops > budget.flops()) return exceeded("flops", budget.flops(), total.flops);
  }
  return std::nullopt;
}

std::optional<Exhausted> BudgetAccount::Reserve(const Amount& amount) {
  Amount total = spent_;
  total += reserved_;
  total += amount;
  if (auto exhausted = Exceeded(total)) return exhausted;
  reserved_ += amount;
  return std::nullopt;
}

bool BudgetAccount::FitsWithoutReservations(const Amount& amount) const {
  Amount total = spent_;
  total += amount;
  return !Exceeded(total).has_value();
}

void BudgetAccount::Settle(const Amount& reserved, const Amount& used) {
  CONCLAVE_CHECK(reserved.calls <= reserved_.calls);
  reserved_ -= reserved;
  // Floating point: the sum of what was set aside must come back to nothing, not to a rounding error.
  if (reserved_.calls == 0) reserved_.flops = 0;
  spent_ += used;
}

void AddToLedger(const inference::v1::Usage& usage, bool discarded, bool estimated, deliberation::v1::Ledger* ledger) {
  const auto seconds = [](const google::protobuf::Duration& duration) { return Seconds(duration); };
  ledger->set_calls(ledger->calls() + 1);
  ledger->set_prompt_tokens(ledger->prompt_tokens() + Sane(usage.prompt_token_count()));
  ledger->set_cached_tokens(ledger->cached_tokens() + Sane(usage.cached_prompt_token_count()));
  ledger->set_output_tokens(ledger->output_tokens() + Sane(usage.output_token_count()));
  if (discarded) ledger->set_discarded_tokens(ledger->discarded_tokens() + Sane(usage.output_token_count()));
  ledger->set_flops(ledger->flops() + static_cast<double>(usage.flop_count()));
  ledger->set_weight_bytes(ledger->weight_bytes() + static_cast<double>(usage.weight_byte_count()));
  ledger->set_kv_bytes(ledger->kv_bytes() + static_cast<double>(usage.kv_byte_count()));
  ledger->set_worker_seconds(ledger->worker_seconds() + seconds(usage.prefill_time()) + seconds(usage.decode_time()));
  ledger->set_estimated(ledger->estimated() || estimated);
  ledger->set_saved_flops(ledger->saved_flops() + static_cast<double>(usage.saved_flop_count()));
}

}  // namespace conclave::orchestrator
