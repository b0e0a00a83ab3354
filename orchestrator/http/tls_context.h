// SPDX-License-Identifier: Apache-2.0
// A server's end of TLS: its certificate, read again when the files change, and the handshakes with it. Private to this
// folder.
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "orchestrator/http/http_server.h"

namespace conclave::http {

struct FreeSsl {
  void operator()(SSL* session) const { SSL_free(session); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using TlsSession = std::unique_ptr<SSL, FreeSsl>;

// Thread-safe.
class TlsContext {
 public:
  // INVALID_ARGUMENT: a file that cannot be read or is none, a key that does not fit its certificate.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Load(const ServerTls& files, const Clock* clock);
  // Takes a caller's handshake on a connected socket, which does not block from then on. Null: there was none in time,
  // or none that holds.
  TlsSession Accept(int socket, int64_t within_ns);

 private:
  using Context = std::unique_ptr<SSL_CTX, FreeSsl>;
  // What tells that a file has changed: its inode, size and time of change.
  using State = std::array<int64_t, 3 * 4>;

  TlsContext(const ServerTls& files, const Clock* clock) : files_(files), clock_(clock) {}
  static absl::StatusOr<Context> Make(const ServerTls& files);
  State StateOfFiles() const;
  TlsSession NewSession();

  const ServerTls files_;
  const Clock* const clock_;
  Mutex mutex_;
  Context context_ ABSL_GUARDED_BY(mutex_);
  State state_ ABSL_GUARDED_BY(mutex_) = {};
  int64_t looked_ns_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace conclave::http
