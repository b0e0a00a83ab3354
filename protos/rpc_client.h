// SPDX-License-Identifier: Apache-2.0
// What every client of gRPC 1.51 needs around its faults: a callback queue that stays, and deadlines by a clock that
// only goes forward.
#pragma once

#include <grpcpp/client_context.h>

#include <cstdint>

namespace conclave::rpc {

// gRPC 1.51 runs client callbacks on one queue that it takes down with the last channel that used it; where that
// happens on one of the queue's own threads it frees what it is reading ("assertion failed: prior > 0", seen at exit,
// between tests, and when a client stops watching). This makes a channel that is never taken down, hence keeps the
// queue. Call it before the first callback call; again does nothing.
void KeepCallbackQueue();

// So long from now; not affected by changes of the wall clock.
gpr_timespec After(int64_t ns);

// The call's deadline, so long from now.
void SetDeadline(grpc::ClientContext* context, int64_t timeout_ns);

}  // namespace conclave::rpc
