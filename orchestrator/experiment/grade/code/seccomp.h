// SPDX-License-Identifier: Apache-2.0
// The system calls that sandboxed programs are refused.
#pragma once

#include <string>

namespace conclave::grade::code {

// A seccomp filter (Linux BPF, struct sock_filter in machine order) for bwrap --seccomp: new processes, sockets,
// tracing, mounts, namespaces, keys and kernel interfaces give EPERM (clone3 gives ENOSYS, so that libc falls back to
// clone); threads are allowed. Calls of another architecture kill the process.
std::string SeccompFilter();

}  // namespace conclave::grade::code
