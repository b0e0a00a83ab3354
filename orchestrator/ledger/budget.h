// SPDX-License-Identifier: Apache-2.0
// Budgets with reservation: a call's worst case is set aside before it is dispatched and replaced by what it used when
// it ends, so that a limit is never passed by calls that were all let through together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "conclave/deliberation/v1/graph.pb.h"
#include "conclave/inference/v1/inference.pb.h"

namespace conclave::orchestrator {

// Work in the units that budgets know.
struct Amount {
  int64_t calls = 0;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  double flops = 0;

  Amount& operator+=(const Amount& other);
  Amount& operator-=(const Amount& other);
  friend bool operator==(const Amount&, const Amount&) = default;
};

// One call that reports this usage.
Amount AmountOf(const inference::v1::Usage& usage);

// A call that does not fit.
struct Exhausted {
  std::string budget;  // whose limit: "graph", "request", ..
  std::string unit;    // "calls", "prompt_tokens", "output_tokens", "flops"
  double limit = 0;
  double needed = 0;  // what the refused call would have brought it to
  deliberation::v1::Budget::OnExhausted on_exhausted = deliberation::v1::Budget::FAIL;
};

// The nested limits of one run: a call must fit into each of them. Not thread-safe.
class BudgetAccount {
 public:
  // INVALID_ARGUMENT: a negative limit, or a flops limit that is no number.
  absl::Status AddLimit(std::string name, const deliberation::v1::Budget& budget);

  // Sets `amount` aside, or says which limit it does not fit (the first added of those) and changes nothing.
  std::optional<Exhausted> Reserve(const Amount& amount);
  // Whether Reserve would succeed if everything set aside were given back unused.
  bool FitsWithoutReservations(const Amount& amount) const;
  // Gives back a reservation and books what was used instead. `used` may be more than `reserved` (a prompt estimated
  // too short): what was done is booked whatever the limit.
  void Settle(const Amount& reserved, const Amount& used);

  const Amount& spent() const { return spent_; }
  const Amount& reserved() const { return reserved_; }

 private:
  struct Limit {
    std::string name;
    deliberation::v1::Budget budget;
  };
  std::optional<Exhausted> Exceeded(const Amount& total) const;

  std::vector<Limit> limits_;
  Amount spent_;
  Amount reserved_;
};

// Adds one ended call to a ledger; `discarded`: its words are of no use (cancelled or lost).
void AddToLedger(const inference::v1::Usage& usage, bool discarded, bool estimated, deliberation::v1::Ledger* ledger);

}  // namespace conclave::orchestrator
