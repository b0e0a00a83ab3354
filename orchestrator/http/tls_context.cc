// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/tls_context.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace conclave::http {
namespace {

constexpr int64_t kLookNs = 5'000'000'000;  // between two looks at the files
constexpr int64_t kNsPerMs = 1'000'000;
// Sessions are resumed only where they were made; OpenSSL wants a name where callers bring certificates.
constexpr unsigned char kSessionName[] = "conclave";

// What OpenSSL last found wrong on this thread.
std::string Reason() {
  const unsigned long error = ERR_peek_last_error();  // NOLINT(google-runtime-int): OpenSSL's type
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  ERR_clear_error();
  return reason == nullptr ? "it cannot be read" : reason;
}

}  // namespace

absl::StatusOr<TlsContext::Context> TlsContext::Make(const ServerTls& files) {
  if (files.certificate.empty() || files.key.empty()) {
    return InvalidArgument("TLS takes a certificate and its key; {} is missing",
                           files.certificate.empty() ? "the certificate" : "the key");
  }
  ERR_clear_error();
  Context context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return Internal("no TLS context: {}", Reason());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_session_id_context(context.get(), kSessionName, sizeof kSessionName - 1);
  if (SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1) {
    return InvalidArgument("{}: no PEM certificate chain: {}", files.certificate, Reason());
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return InvalidArgument("{}: no PEM key of {}: {}", files.key, files.certificate, Reason());
  }
  if (files.client_ca.empty()) return context;
  if (SSL_CTX_load_verify_locations(context.get(), files.client_ca.c_str(), nullptr) != 1) {
    return InvalidArgument("{}: no PEM authority: {}", files.client_ca, Reason());
  }
  SSL_CTX_set_client_CA_list(context.get(), SSL_load_client_CA_file(files.client_ca.c_str()));
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return context;
}

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Load(const ServerTls& files, const Clock* clock) {
  std::unique_ptr<TlsContext> out(new TlsContext(files, clock));
  const State state = out->StateOfFiles();
  ASSIGN_OR_RETURN(Context context, Make(files));
  MutexLock lock(&out->mutex_);
  out->context_ = std::move(context);
  out->state_ = state;
  out->looked_ns_ = clock->NowNs();
  return out;
}

TlsContext::State TlsContext::StateOfFiles() const {
  State state = {};
  size_t at = 0;
  for (const std::string* path : {&files_.certificate, &files_.key, &files_.client_ca}) {
    struct stat facts = {};
    if (!path->empty() && stat(path->c_str(), &facts) == 0) {
      state[at] = static_cast<int64_t>(facts.st_ino);
      state[at + 1] = facts.st_size;
      state[at + 2] = facts.st_mtim.tv_sec;
      state[at + 3] = facts.st_mtim.tv_nsec;
    }
    at += 4;
  }
  return state;
}

TlsSession TlsContext::NewSession() {
  MutexLock lock(&mutex_);
  if (const int64_t now_ns = clock_->NowNs(); now_ns - looked_ns_ >= kLookNs) {
    looked_ns_ = now_ns;
    if (const State state = StateOfFiles(); state != state_) {
      // Files that do not fit each other are half renewed: the old certificate serves until they do.
      if (auto context = Make(files_); context.ok()) {
        context_ = *std::move(context);
        state_ = state;
      }
    }
  }
  return TlsSession(SSL_new(context_.get()));
}

TlsSession TlsContext::Accept(int socket, int64_t within_ns) {
  const int64_t until_ns = clock_->NowNs() + within_ns;
  TlsSession session = NewSession();
  const int flags = fcntl(socket, F_GETFL, 0);
  if (session == nullptr || flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK) != 0) return nullptr;
  SSL_set_fd(session.get(), socket);
  while (true) {
    ERR_clear_error();
    const int result = SSL_accept(session.get());
    if (result == 1) return session;
    const int error = SSL_get_error(session.get(), result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return nullptr;
    const int64_t left_ns = until_ns - clock_->NowNs();
    if (left_ns <= 0) return nullptr;
    pollfd ready = {socket, static_cast<int16_t>(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT), 0};
    poll(&ready, 1, static_cast<int>(std::min<int64_t>(left_ns / kNsPerMs + 1, 60'000)));
  }
}

}  // namespace conclave::http
