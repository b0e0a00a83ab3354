// SPDX-License-Identifier: Apache-2.0
// Around a fault of gRPC 1.51 and its deadlines.
#pragma once

#include <grpcpp/client_context.h>

#include <cstdint>

namespace conclave::orchestrator {

// gRPC 1.51 runs client callbacks on one queue that it takes down with the last channel that used it, and then aborts
// in about every second process ("assertion failed: prior > 0", seen at exit and between tests). This makes a channel
// that is never taken down, hence keeps the queue. Call it before the first callback call; again does nothing.
void KeepCallbackQueue();

// The call's deadline, so long from now; not affected by changes of the wall clock.
void SetDeadline(grpc::ClientContext* context, int64_t timeout_ns);

}  // namespace conclave::orchestrator
