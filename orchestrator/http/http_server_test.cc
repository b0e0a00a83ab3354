// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "orchestrator/http/http_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::http {
namespace {

using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

// A gate that a test opens; waits without a clock.
class Gate {
 public:
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.SignalAll();
  }
  void Await() {
    MutexLock lock(&mutex_);
    while (!open_) changed_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

// Pieces until `end` opens; tells when it goes.
class Pieces final : public Body {
 public:
  Pieces(Gate* end, Gate* gone) : end_(end), gone_(gone) {}
  ~Pieces() override { gone_->Open(); }
  Next Take(int64_t, std::string* piece) override {
    if (count_ == 3) {
      if (end_ == nullptr) return Next::kNothingYet;
      end_->Await();
      return Next::kEnd;
    }
    *piece = "piece " + std::to_string(count_++) + "\n";
    return Next::kPiece;
  }

 private:
  Gate* const end_;
  Gate* const gone_;
  int count_ = 0;
};

class EchoHandler final : public Handler {
 public:
  std::optional<Reply> Refuse(const Request& head) override {
    EXPECT_EQ(head.body, "");
    if (head.authorization == "no") return Reply{.status = 401, .text = "refused"};
    return std::nullopt;
  }
  Reply Answer(const Request& request) override {
    ++answered;
    if (request.path == "/slow") {
      began.Open();
      while (!request.caller->gone() && !released) std::this_thread::yield();
      saw_caller_go = request.caller->gone();
      left.Open();
    }
    if (request.path == "/pieces") return Reply{.body = std::make_unique<Pieces>(pieces_end, &pieces_gone)};
    if (request.path == "/throw") throw std::runtime_error("not ours");
    Reply reply;
    reply.text = request.method + " " + request.path + " " + std::to_string(request.body.size());
    if (const auto it = request.query.find("q"); it != request.query.end()) reply.text += " q=" + it->second;
    return reply;
  }
  Reply Error(int status) override { return Reply{.status = status, .text = "error"}; }

  std::atomic<int> answered = 0;
  std::atomic<bool> released = false, saw_caller_go = false;
  Gate began, left, pieces_gone;
  Gate* pieces_end = nullptr;
};

class HttpServerTest : public ::testing::Test {
 protected:
  void Serve(int32_t connections_max = 64) {
    ServerOptions options;
    options.post_paths = {"/echo"};
    options.body_bytes_max = 1000;
    options.connections_max = connections_max;
    auto server = Server::Start(options, &handler_);
    CONCLAVE_CHECK(server.ok());
    server_ = *std::move(server);
  }
  std::string Exchange(const std::string& text) {
    RawConnection connection(server_->port());
    connection.Send(text);
    return connection.Read();
  }

  EchoHandler handler_;
  std::unique_ptr<Server> server_;
};

TEST_F(HttpServerTest, AnswersWithPathQueryAndBody) {
  Serve();
  EXPECT_THAT(Exchange(GetText("/a%20b?q=1%262&q=3")), HasSubstr("\r\n\r\nGET /a b 0 q=1&2"));
  EXPECT_THAT(Exchange(PostText("/echo", "12345")), HasSubstr("POST /echo 5"));
  EXPECT_THAT(Exchange("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                       "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"),
              HasSubstr("POST /echo 7"));
}

TEST_F(HttpServerTest, AConnectionIsKept) {
  Serve();
  RawConnection connection(server_->port());
  for (int i = 0; i < 20; ++i) {
    connection.Send("POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nab");
    EXPECT_THAT(connection.Read("POST /echo 2"), HasSubstr("200"));
  }
}

TEST_F(HttpServerTest, BodiesAreAsLongAsTheLimit) {
  Serve();
  EXPECT_EQ(StatusOf(Exchange(PostText("/echo", std::string(1000, 'x')))), 200);
  EXPECT_EQ(StatusOf(Exchange(PostText("/echo", std::string(1001, 'x')))), 413);
  // A body whose chunks never end: neither kept nor answered as if it were whole.
  RawConnection endless(server_->port());
  endless.Send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "8000\r\n" + std::string(0x8000, 'x') + "\r\n";
  for (int i = 0; i < 1000 && endless.Send(chunk); ++i) {
  }
  EXPECT_THAT(endless.Read(), Not(HasSubstr("200")));
  EXPECT_EQ(handler_.answered, 1);
}

TEST_F(HttpServerTest, HeadsAreAsLongAsTheLimit) {
  Serve();
  const auto padded = [](size_t head_bytes) {
    std::string text = "GET /h HTTP/1.1\r\nConnection: close\r\n";
    for (int i = 0; i < 4; ++i) text += "X-" + std::to_string(i) + ": " + std::string(4000, 'x') + "\r\n";
    text += "Y: ";
    text += std::string(head_bytes - text.size() - 4, 'y');
    return text + "\r\n\r\n";
  };
  ASSERT_EQ(padded(kHeadBytesMax).size(), static_cast<size_t>(kHeadBytesMax));
  EXPECT_EQ(StatusOf(Exchange(padded(kHeadBytesMax))), 200);
  EXPECT_EQ(StatusOf(Exchange(padded(kHeadBytesMax + 100))), 431);
  const auto target = [](size_t line_bytes) {
    return "GET /" + std::string(line_bytes - 14 - 1, 'a') + " HTTP/1.1\r\nConnection: close\r\n\r\n";
  };
  EXPECT_EQ(StatusOf(Exchange(target(kTargetBytesMax))), 200);
  EXPECT_EQ(StatusOf(Exchange(target(kTargetBytesMax + 100))), 431);
  EXPECT_EQ(StatusOf(Exchange(std::string(1'000'000, 'a'))), 431);
}

TEST_F(HttpServerTest, RangesAndGarbageEndAConnectionInOrder) {
  Serve();
  std::string ranges = "bytes=";
  for (int i = 0; i < 3000; ++i) ranges += "1-,";
  EXPECT_EQ(StatusOf(Exchange(GetText("/r", "RanGe: " + ranges + "1-\r\n"))), 416);
  EXPECT_EQ(StatusOf(Exchange("\r\n\r\n")), 400);
  EXPECT_EQ(StatusOf(Exchange("GET\r\n\r\n")), 400);
  EXPECT_EQ(StatusOf(Exchange(GetText("/throw"))), 500);
  EXPECT_EQ(StatusOf(Exchange(GetText("/still"))), 200);
}

TEST_F(HttpServerTest, RefusesBeforeABodyIsRead) {
  Serve();
  RawConnection connection(server_->port());
  connection.Send("POST /echo HTTP/1.1\r\nAuthorization: no\r\nContent-Length: 900\r\n\r\nthe rest never comes");
  const std::string answer = connection.Read();
  EXPECT_EQ(StatusOf(answer), 401);
  EXPECT_EQ(BodyOf(answer), "refused");
  EXPECT_EQ(handler_.answered, 0);
}

TEST_F(HttpServerTest, ABodyThatNobodyReadsIsNotTheNextRequest) {
  Serve();
  RawConnection connection(server_->port());
  const std::string hidden = "GET /hidden HTTP/1.1\r\n\r\n";
  connection.Send("GET /a HTTP/1.1\r\nContent-Length: " + std::to_string(hidden.size()) + "\r\n\r\n" + hidden);
  EXPECT_THAT(connection.Read(), Not(HasSubstr("hidden")));
  EXPECT_EQ(handler_.answered, 1);
}

TEST_F(HttpServerTest, PiecesComeOneByOne) {
  Serve();
  Gate end;
  handler_.pieces_end = &end;
  RawConnection connection(server_->port());
  connection.Send(GetText("/pieces", "Accept-Encoding: gzip, br\r\n"));
  EXPECT_THAT(connection.Read("piece 2\n\r\n"), HasSubstr("piece 0"));  // before the end is known
  end.Open();
  EXPECT_THAT(connection.Read(), HasSubstr("0\r\n\r\n"));
}

TEST_F(HttpServerTest, ACallerThatGoesIsNoticed) {
  Serve();
  {
    RawConnection connection(server_->port());
    connection.Send(GetText("/pieces"));
    connection.Read("piece 2\n\r\n");
  }
  handler_.pieces_gone.Await();
  {
    RawConnection connection(server_->port());
    connection.Send(GetText("/slow"));
    handler_.began.Await();
  }
  handler_.left.Await();
  EXPECT_TRUE(handler_.saw_caller_go);
}

TEST_F(HttpServerTest, MoreConnectionsThanTheLimitAreRefused) {
  Serve(/*connections_max=*/2);
  RawConnection a(server_->port()), b(server_->port());
  for (RawConnection* held : {&a, &b}) {
    held->Send("GET /held HTTP/1.1\r\n\r\n");
    EXPECT_THAT(held->Read("GET /held 0"), HasSubstr("200"));
  }
  EXPECT_EQ(StatusOf(Exchange(GetText("/third"))), 503);
  a.Send("GET /again HTTP/1.1\r\n\r\n");
  EXPECT_THAT(a.Read("GET /again 0"), HasSubstr("200"));
}

TEST_F(HttpServerTest, StoppingLetsAnswersEnd) {
  Serve();
  RawConnection idle(server_->port()), asking(server_->port());
  idle.Send("GET /idle HTTP/1.1\r\n\r\n");
  idle.Read("GET /idle 0");
  asking.Send(GetText("/slow"));
  handler_.began.Await();
  std::thread stopper([this] { server_->Stop(int64_t{3600} * 1'000'000'000); });
  EXPECT_EQ(idle.Read(), "");  // closed at once
  handler_.released = true;
  EXPECT_THAT(asking.Read(), HasSubstr("GET /slow 0"));
  stopper.join();
}

TEST_F(HttpServerTest, StoppingBreaksOffWhatDoesNotEnd) {
  Serve();
  RawConnection endless(server_->port());
  endless.Send(GetText("/pieces"));
  endless.Read("piece 2\n\r\n");
  server_->Stop(0);
  handler_.pieces_gone.Await();
  EXPECT_THAT(endless.Read(), Not(HasSubstr("0\r\n\r\n")));
}

TEST_F(HttpServerTest, ATakenPortIsAnError) {
  Serve();
  ServerOptions options;
  options.port = server_->port();
  EXPECT_THAT(Server::Start(options, &handler_).status(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("taken")));
}

}  // namespace
}  // namespace conclave::http
