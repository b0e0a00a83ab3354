// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <thread>

#include "orchestrator/http/raw_server_testing.h"
#include "orchestrator/http/tls_testing.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::http {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

TEST(ParseUrl, TakesServersAndPaths) {
  const auto plain = ParseUrl("http://localhost:8000/v1/");
  ASSERT_OK(plain.status());
  EXPECT_FALSE(plain->tls);
  EXPECT_EQ(plain->host, "localhost");
  EXPECT_EQ(plain->port, 8000);
  EXPECT_EQ(plain->path, "/v1");
  const auto secure = ParseUrl("https://[::1]/a/b");
  ASSERT_OK(secure.status());
  EXPECT_TRUE(secure->tls);
  EXPECT_EQ(secure->host, "::1");
  EXPECT_EQ(secure->port, 443);
  EXPECT_EQ(ParseUrl("http://[::1]:81")->port, 81);
  EXPECT_EQ(ParseUrl("http://h")->path, "");
}

TEST(ParseUrl, RefusesEverythingElse) {
  for (const char* text :
       {"", "localhost:8000", "ftp://h", "http://", "http://:80", "http://h:0", "http://h:65536", "http://h:x",
        "http://u:p@h/", "http://h/?q", "http://h/#f", "http://h/a b", "http://h/\r\n", "http://h\\x"}) {
    EXPECT_THAT(ParseUrl(text).status(), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

// What a POST of "ask" gives.
struct Got {
  absl::Status status;
  ReplyHead head;
  std::string body;
};
Got PostTo(const std::string& url, const PostLimits& limits = {}, const std::string& authorities = "") {
  Post post(*ParseUrl(url), limits, authorities, Clock::System());
  Got got;
  got.status = post.Run(
      "/p", {{"X-Test", "1"}}, "ask",
      [&](const ReplyHead& head) {
        got.head = head;
        return true;
      },
      [&](std::string_view piece) {
        got.body += piece;
        return true;
      });
  return got;
}

TEST(Post, SendsAndReads) {
  RawServer server([](int, const std::string&) {
    return RawAnswer{.bytes =
                         "HTTP/1.1 429 Slow Down\r\nContent-Type: text/x\r\nRetry-After: 3\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"};
  });
  const Got got = PostTo(server.url());
  EXPECT_OK(got.status);
  EXPECT_EQ(got.head.status, 429);
  EXPECT_EQ(got.head.content_type, "text/x");
  EXPECT_EQ(got.head.retry_after, "3");
  EXPECT_EQ(got.body, "abcde");
  const std::string request = server.requests()[0];
  EXPECT_THAT(request, HasSubstr("POST /p HTTP/1.1\r\n"));
  EXPECT_THAT(request, HasSubstr("X-Test: 1\r\n"));
  EXPECT_TRUE(request.ends_with("\r\n\r\nask"));
}

TEST(Post, WhatBreaksIsTold) {
  const std::vector<std::string> broken = {
      "",                                                               // closed at once
      "SSH-2.0-OpenSSH\r\n\r\n",                                        // another protocol
      "HTTP/1.1 200 " + std::string(100'000, 'x') + "\r\n\r\n",         // a status line that never ends
      "HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x'),             // a head that never ends
      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",              // cut
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",  // cut in a chunk
  };
  for (const std::string& bytes : broken) {
    RawServer server([&bytes](int, const std::string&) { return RawAnswer{.bytes = bytes}; });
    EXPECT_THAT(PostTo(server.url()).status, StatusIs(absl::StatusCode::kUnavailable)) << bytes.substr(0, 60);
  }
}

TEST(Post, BodiesAreBounded) {
  PostLimits limits;
  limits.body_bytes_max = 1 << 20;
  RawServer server([](int, const std::string&) {
    return RawAnswer{.bytes = "HTTP/1.1 200 OK\r\n\r\n" + std::string(1024, 'x'), .repeat_tail = int64_t{1} << 40};
  });
  const Got got = PostTo(server.url(), limits);
  EXPECT_FALSE(got.status.ok());
  EXPECT_LE(got.body.size(), (1u << 20) + 16384);
}

TEST(Post, SilenceAndNobodyAreToldApart) {
  PostLimits limits;
  limits.silence_ns = 50'000'000;
  RawServer silent([](int, const std::string&) { return RawAnswer{.hang = true}; });
  EXPECT_THAT(PostTo(silent.url(), limits).status, StatusIs(absl::StatusCode::kDeadlineExceeded));
  std::string nobody;
  {
    RawServer gone([](int, const std::string&) { return RawAnswer{}; });
    nobody = gone.url();
  }
  EXPECT_THAT(PostTo(nobody).status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("NOT_CONNECTED")));
}

TEST(Post, IsGivenUpFromAnotherThread) {
  RawServer server([](int, const std::string&) { return RawAnswer{.hang = true}; });
  Post post(*ParseUrl(server.url()), {}, "", Clock::System());
  std::thread stopper([&] {
    server.AwaitConnections(1);
    post.Stop();
  });
  const auto yes = [](const auto&) { return true; };
  EXPECT_THAT(post.Run("/", {}, "", yes, yes), StatusIs(absl::StatusCode::kCancelled));
  stopper.join();
  Post before(*ParseUrl(server.url()), {}, "", Clock::System());
  before.Stop();
  EXPECT_THAT(before.Run("/", {}, "", yes, yes), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(server.connections(), 1);
}

TEST(Post, SpeaksTlsToThoseWhoseCertificateHolds) {
  testing::TempDir dir;
  const auto [certificate, key] = MakeCertificate(dir.Path(""), "own");
  httplib::SSLServer server(certificate.c_str(), key.c_str());
  server.Post("/p", [](const httplib::Request& request, httplib::Response& response) {
    response.set_content("told: " + request.body, "text/plain");
  });
  const int port = server.bind_to_any_port("localhost");
  std::thread serving([&server] { server.listen_after_bind(); });
  const std::string url = "https://localhost:" + std::to_string(port);
  const Got trusted = PostTo(url, {}, certificate);
  EXPECT_OK(trusted.status);
  EXPECT_EQ(trusted.body, "told: ask");
  EXPECT_FALSE(PostTo(url).status.ok());  // nobody vouches for it
  EXPECT_FALSE(PostTo("https://127.0.0.1:" + std::to_string(port), {}, certificate).status.ok());  // another name
  while (!server.is_running()) std::this_thread::yield();
  server.stop();
  serving.join();
}

}  // namespace
}  // namespace conclave::http
