// SPDX-License-Identifier: Apache-2.0
// Collectives between the ranks that compute one model together, each its part. Every rank calls the same collectives
// in the same order with views of the same shape.
//
// Threads: a rank's own thread; Abort from any.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/tensor/view.h"

namespace conclave::engine {

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int32_t rank() const = 0;  // in [0, size)
  virtual int32_t size() const = 0;

  // x of every rank becomes the sum of all, in f32 and in the order of ranks: (x0 + x1) + x2 .. An element's sum is
  // made once, so all ranks hold the same bits, and they do not depend on who came first.        x f32, dense
  // An error is that of Abort, by whomever; x is then lost.
  virtual absl::Status AllReduceSum(const View& x) = 0;

  // Ends the group: whoever waits in a collective, or calls one from now on, gets `status` (not OK; of several, the
  // first). Others may still be reading and writing the views that were given, until their calls have returned.
  virtual void Abort(const absl::Status& status) = 0;
};

}  // namespace conclave::engine
