// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/http_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/http/edge_stream.h"
#include "orchestrator/http/tls_context.h"

namespace conclave::http {
namespace {

constexpr int kBacklog = 1024;
constexpr int kKeepAliveRequests = 1'000;        // told, not counted
constexpr int64_t kTurnNs = 200'000'000;         // how often a caller that went, or a stop, is looked for
constexpr int64_t kChunkedSlackBytes = 1 << 20;  // sizes between the chunks of a body
constexpr std::string_view kTooMany =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";

// The connection that this thread serves, and whether it may.
thread_local EdgeStream* current_stream = nullptr;
thread_local bool refuse_connection = false;

class StreamCaller final : public Caller {
 public:
  explicit StreamCaller(const EdgeStream* stream) : stream_(stream) {}
  bool gone() const override { return stream_->gone(); }

 private:
  const EdgeStream* const stream_;
};

// A thread per connection, made when needed and kept.
class ConnectionThreads final : public httplib::TaskQueue {
 public:
  explicit ConnectionThreads(int32_t threads_max) : threads_max_(threads_max) {}

  void enqueue(std::function<void()> serve) override {
    {
      MutexLock lock(&mutex_);
      if (waiting_ > static_cast<int32_t>(queue_.size()) || static_cast<int32_t>(threads_.size()) < threads_max_) {
        queue_.push_back(std::move(serve));
        if (waiting_ < static_cast<int32_t>(queue_.size())) threads_.emplace_back([this] { Work(); });
        changed_.Signal();
        return;
      }
    }
    refuse_connection = true;  // on the accepting thread
    serve();
    refuse_connection = false;
  }

  void shutdown() override {
    std::vector<std::thread> threads;
    {
      MutexLock lock(&mutex_);
      ending_ = true;
      changed_.SignalAll();
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  void Work() {
    while (true) {
      std::function<void()> serve;
      {
        MutexLock lock(&mutex_);
        ++waiting_;
        while (queue_.empty() && !ending_) changed_.Wait(&mutex_);
        --waiting_;
        if (queue_.empty()) return;
        serve = std::move(queue_.front());
        queue_.pop_front();
      }
      serve();
    }
  }

  const int32_t threads_max_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  int32_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
};

// Whether the head has a header; `name` in lower case.
bool HasHeader(std::string_view head, std::string_view name) {
  for (size_t at = head.find('\n'); at != head.npos; at = head.find('\n', at + 1)) {
    const std::string_view line = head.substr(at + 1);
    if (line.size() > name.size() && line[name.size()] == ':' &&
        std::equal(name.begin(), name.end(), line.begin(),
                   [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b - 'A' + 'a') : b); }))
      return true;
  }
  return false;
}

Request ToRequest(const httplib::Request& from, const Caller* caller) {
  Request to;
  to.method = from.method;
  to.path = from.path;
  for (const auto& [name, value] : from.params) to.query.emplace(name, value);
  to.authorization = from.get_header_value("Authorization");
  to.content_type = from.get_header_value("Content-Type");
  to.host = from.get_header_value("Host");
  to.body = from.body;
  to.caller = caller;
  return to;
}

void FillResponse(Reply reply, httplib::Response* to) {
  to->status = reply.status;
  for (const auto& [name, value] : reply.headers) to->set_header(name, value);
  if (reply.body == nullptr) return to->set_content(reply.text, reply.content_type);
  // httplib copies the function, so what it owns is shared.
  const std::shared_ptr<Body> body = std::move(reply.body);
  const EdgeStream* stream = current_stream;
  to->set_chunked_content_provider(reply.content_type, [body, stream](size_t, httplib::DataSink& sink) {
    std::string piece;
    switch (body->Take(kTurnNs, &piece)) {
      case Body::Next::kPiece:
        return sink.write(piece.data(), piece.size());
      case Body::Next::kNothingYet:
        return !stream->gone();
      case Body::Next::kEnd:
        sink.done();
        return true;
      case Body::Next::kBroken:
        return false;
    }
    return false;
  });
}

}  // namespace

absl::Status CheckTls(const ServerTls& files) { return TlsContext::Load(files, &Clock::System()).status(); }

class Server::Impl final : public httplib::Server {
 public:
  Impl(ServerOptions options, http::Handler* handler) : options_(std::move(options)), handler_(handler) {}

  absl::Status Start() {
    if (!options_.tls.empty()) {
      ASSIGN_OR_RETURN(tls_, TlsContext::Load(options_.tls, options_.clock));
    }
    new_task_queue = [this] { return new ConnectionThreads(options_.connections_max); };
    set_payload_max_length(static_cast<size_t>(options_.body_bytes_max));
    set_tcp_nodelay(true);
    set_keep_alive_timeout(kKeepAliveNs / 1'000'000'000);  // what a reply says of it
    set_keep_alive_max_count(kKeepAliveRequests);
    // httplib's own choice lets two servers share a port and split its callers.
    set_socket_options([](socket_t socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    set_pre_routing_handler([this](const httplib::Request& from, httplib::Response& to) { return Route(from, &to); });
    for (const std::string& path : options_.post_paths) {
      Post(path, [this](const httplib::Request& from, httplib::Response& to) { AnswerTo(from, &to); });
    }
    set_error_handler(HandlerWithResponse([this](const httplib::Request&, httplib::Response& to) {
      if (to.body.empty()) FillResponse(handler_->Error(to.status), &to);
      return HandlerResponse::Handled;
    }));
    set_exception_handler([this](const httplib::Request&, httplib::Response& to, const std::exception_ptr&) {
      FillResponse(handler_->Error(500), &to);
    });
    port_ = options_.port == 0 ? bind_to_any_port(options_.host)
                               : (bind_to_port(options_.host, options_.port) ? options_.port : -1);
    if (port_ < 0) {
      return Unavailable("{}:{}: the address is taken or is not of this machine; name another", options_.host,
                         options_.port);
    }
    ::listen(svr_sock_, kBacklog);  // httplib's own backlog is five
    acceptor_ = std::thread([this] {
      listen_after_bind();
      ended_ = true;
    });
    return absl::OkStatus();
  }

  int32_t port() const { return port_; }

  // httplib breaks off what comes in pieces as soon as its socket is closed, so that comes last.
  void Stop(int64_t grace_ns) {
    if (!acceptor_.joinable()) return;
    stopping_ = true;
    const int64_t until_ns = options_.clock->NowNs() + grace_ns;
    {
      MutexLock lock(&mutex_);
      for (const socket_t idle : idle_) ::shutdown(idle, SHUT_RDWR);
      while (!open_.empty()) {
        const int64_t left_ns = until_ns - options_.clock->NowNs();
        if (left_ns <= 0) break;
        closed_.WaitWithTimeout(&mutex_, left_ns);
      }
      for (const socket_t open : open_) ::shutdown(open, SHUT_RDWR);
    }
    while (!is_running() && !ended_) std::this_thread::yield();  // it is about to accept
    stop();
    acceptor_.join();
  }

 private:
  HandlerResponse Route(const httplib::Request& from, httplib::Response* to) {
    const StreamCaller caller(current_stream);
    Request request = ToRequest(from, &caller);
    const bool takes_body =
        from.method == "POST" && std::count(options_.post_paths.begin(), options_.post_paths.end(), from.path) > 0;
    std::optional<Reply> reply = handler_->Refuse(request);
    if (!reply.has_value() && takes_body) return HandlerResponse::Unhandled;  // its body is read next
    if (!reply.has_value()) reply = handler_->Answer(request);
    // A body that nobody reads would be taken for the next request.
    if (from.method != "GET" && from.method != "HEAD") closing_ = true;
    FillResponse(*std::move(reply), to);
    return HandlerResponse::Handled;
  }

  void AnswerTo(const httplib::Request& from, httplib::Response* to) {
    const StreamCaller caller(current_stream);
    FillResponse(handler_->Answer(ToRequest(from, &caller)), to);
  }

  // ---- httplib::Server
  bool process_and_close_socket(socket_t socket) override {
    if (refuse_connection || stopping_) {
      if (tls_ == nullptr) send(socket, kTooMany.data(), kTooMany.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
      {
        MutexLock lock(&mutex_);
        open_.insert(socket);
      }
      if (tls_ == nullptr) {
        Serve(socket, nullptr);
      } else if (const TlsSession session = tls_->Accept(socket, kHeadNs); session != nullptr) {
        Serve(socket, session.get());
        SSL_shutdown(session.get());
      }
      MutexLock lock(&mutex_);
      open_.erase(socket);
      closed_.SignalAll();
    }
    ::shutdown(socket, SHUT_RDWR);
    close(socket);
    return true;
  }

  void Serve(socket_t socket, SSL* tls) {
    EdgeStream stream(socket, tls,
                      {.head_bytes_max = kHeadBytesMax,
                       .first_line_bytes_max = kTargetBytesMax,
                       .head_ns = kHeadNs,
                       .body_bytes_max = options_.body_bytes_max + kChunkedSlackBytes,
                       .silence_ns = kSilenceNs},
                      *options_.clock);
    current_stream = &stream;
    while (AwaitRequest(socket, stream)) {
      const EdgeStream::Head head = stream.ReadHead();
      if (head == EdgeStream::Head::kTooLarge) WriteError(431, &stream);
      if (head == EdgeStream::Head::kTooSlow) WriteError(408, &stream);
      if (head != EdgeStream::Head::kWhole) break;
      // httplib matches the ranges with a recursive regular expression, which overflows the stack; nothing here has
      // ranges.
      if (HasHeader(stream.head(), "range")) {
        WriteError(416, &stream);
        break;
      }
      const bool has_body = HasHeader(stream.head(), "content-length") || HasHeader(stream.head(), "transfer-encoding");
      closing_ = true;  // unless the head parses
      bool closed = false;
      const bool served = process_request(stream, stopping_, closed, [&](httplib::Request& request) {
        closing_ = has_body && request.method != "POST";
        request.headers.erase("Accept-Encoding");  // httplib would hold pieces back to compress them
      });
      if (!served) break;
      if (closed || closing_ || stopping_) break;
    }
    current_stream = nullptr;
  }

  // False: the connection has been idle for too long, or the server stops.
  bool AwaitRequest(socket_t socket, const EdgeStream& stream) {
    {
      MutexLock lock(&mutex_);
      idle_.insert(socket);
    }
    pollfd ready = {socket, POLLIN, 0};
    const bool came = !stopping_ &&
                      (stream.buffered() || poll(&ready, 1, static_cast<int>(kKeepAliveNs / 1'000'000)) > 0) &&
                      !stopping_;
    MutexLock lock(&mutex_);
    idle_.erase(socket);
    return came;
  }

  void WriteError(int status, EdgeStream* stream) {
    const Reply reply = handler_->Error(status);
    const std::string text =
        fmt::format("HTTP/1.1 {} Error\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                    status, reply.content_type, reply.text.size(), reply.text);
    stream->write(text.data(), text.size());
  }

  const ServerOptions options_;
  http::Handler* const handler_;
  std::unique_ptr<TlsContext> tls_;
  int32_t port_ = -1;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> ended_ = false;   // nothing is accepted any more
  static thread_local bool closing_;  // after the request in hand
  Mutex mutex_;
  CondVar closed_;
  std::set<socket_t> open_ ABSL_GUARDED_BY(mutex_);
  std::set<socket_t> idle_ ABSL_GUARDED_BY(mutex_);  // of open_: between two requests
  std::thread acceptor_;
};

thread_local bool Server::Impl::closing_ = false;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, Handler* handler) {
  auto impl = std::make_unique<Impl>(options, handler);
  RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { impl_->Stop(0); }
int32_t Server::port() const { return impl_->port(); }
void Server::Stop(int64_t grace_ns) { impl_->Stop(grace_ns); }

}  // namespace conclave::http
