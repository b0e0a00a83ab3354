// SPDX-License-Identifier: Apache-2.0
// The server over TLS, asked by httplib's client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <atomic>
#include <filesystem>

#include "orchestrator/http/http_server.h"
#include "orchestrator/http/http_testing.h"
#include "orchestrator/http/tls_testing.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::http {
namespace {

using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kPieces = 40;
constexpr size_t kPieceBytes = 50'000;  // several TLS records each

class Long final : public Body {
 public:
  Next Take(int64_t, std::string* piece) override {
    if (count_ == kPieces) return Next::kEnd;
    piece->assign(kPieceBytes, static_cast<char>('a' + count_++ % 26));
    return Next::kPiece;
  }

 private:
  int count_ = 0;
};

class Told final : public Handler {
 public:
  std::optional<Reply> Refuse(const Request&) override { return std::nullopt; }
  Reply Answer(const Request& request) override {
    Reply reply;
    reply.text = "told: " + request.body;
    if (request.path == "/long") reply.body = std::make_unique<Long>();
    return reply;
  }
  Reply Error(int status) override {
    Reply reply;
    reply.status = status;
    return reply;
  }
};

// The real clock, put forward by a test.
class ForwardClock final : public Clock {
 public:
  int64_t NowNs() const override { return Clock::System().NowNs() + forward_ns; }
  int64_t UnixNs() const override { return Clock::System().UnixNs(); }
  std::atomic<int64_t> forward_ns = 0;
};

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override { own_ = MakeCertificate(dir_.Path(""), "own"); }
  absl::Status Serve(ServerTls tls) {
    ServerOptions options;
    options.post_paths = {"/p"};
    options.tls = std::move(tls);
    options.clock = &clock_;
    auto server = Server::Start(options, &handler_);
    if (server.ok()) server_ = *std::move(server);
    return server.status();
  }
  std::unique_ptr<httplib::SSLClient> Client(const std::string& authority, const TestCertificate& own = {}) const {
    auto client = std::make_unique<httplib::SSLClient>("localhost", server_->port(), own.certificate, own.key);
    client->set_ca_cert_path(authority.c_str());
    client->enable_server_certificate_verification(true);
    return client;
  }

  testing::TempDir dir_;
  TestCertificate own_;
  Told handler_;
  ForwardClock clock_;
  std::unique_ptr<Server> server_;
};

TEST_F(TlsTest, AnswersThoseWhoSpeakIt) {
  ASSERT_OK(Serve({own_.certificate, own_.key, ""}));
  const std::unique_ptr<httplib::SSLClient> client = Client(own_.certificate);
  client->set_keep_alive(true);
  for (const char* body : {"one", "two"}) {
    const auto got = client->Post("/p", body, "text/plain");
    ASSERT_TRUE(got) << httplib::to_string(got.error());
    EXPECT_EQ(got->body, std::string("told: ") + body);
  }
  const auto got = client->Get("/long");
  ASSERT_TRUE(got) << httplib::to_string(got.error());
  EXPECT_EQ(got->body.size(), kPieces * kPieceBytes);
  EXPECT_EQ(got->body.back(), 'a' + (kPieces - 1) % 26);
  // In plaintext there is no answer, and whoever trusts another gives up.
  RawConnection plain(server_->port());
  plain.Send(GetText("/"));
  EXPECT_THAT(plain.Read(), Not(HasSubstr("HTTP/")));
  EXPECT_FALSE(Client(MakeCertificate(dir_.Path(""), "other").certificate)->Get("/"));
}

TEST_F(TlsTest, CallersPresentACertificateWhereOneIsWanted) {
  const TestCertificate caller = MakeCertificate(dir_.Path(""), "caller");
  ASSERT_OK(Serve({own_.certificate, own_.key, caller.certificate}));
  EXPECT_TRUE(Client(own_.certificate, caller)->Get("/"));
  EXPECT_FALSE(Client(own_.certificate)->Get("/"));
  EXPECT_FALSE(Client(own_.certificate, own_)->Get("/"));
}

TEST_F(TlsTest, ARenewedCertificateIsServedWhenItFitsItsKey) {
  namespace fs = std::filesystem;
  ASSERT_OK(Serve({own_.certificate, own_.key, ""}));
  const std::string old = dir_.Path("old.pem");
  fs::copy_file(own_.certificate, old);
  const TestCertificate fresh = MakeCertificate(dir_.Path(""), "fresh");
  fs::rename(fresh.certificate, own_.certificate);
  clock_.forward_ns += 5'000'000'000;
  EXPECT_TRUE(Client(old)->Get("/"));  // the key is not there yet
  fs::rename(fresh.key, own_.key);
  EXPECT_TRUE(Client(old)->Get("/"));  // nobody has looked again
  clock_.forward_ns += 5'000'000'000;
  EXPECT_TRUE(Client(own_.certificate)->Get("/"));
  EXPECT_FALSE(Client(old)->Get("/"));
}

TEST_F(TlsTest, ARenewedAuthorityOfCallersHolds) {
  const TestCertificate before = MakeCertificate(dir_.Path(""), "before"), now = MakeCertificate(dir_.Path(""), "now");
  const std::string authority = dir_.Path("authority.pem");
  std::filesystem::copy_file(before.certificate, authority);
  ASSERT_OK(Serve({own_.certificate, own_.key, authority}));
  EXPECT_TRUE(Client(own_.certificate, before)->Get("/"));
  std::filesystem::copy_file(now.certificate, dir_.Path("fresh.pem"));
  std::filesystem::rename(dir_.Path("fresh.pem"), authority);
  clock_.forward_ns += 5'000'000'000;
  EXPECT_TRUE(Client(own_.certificate, now)->Get("/"));
  EXPECT_FALSE(Client(own_.certificate, before)->Get("/"));
}

TEST_F(TlsTest, BadFilesAreErrorsThatNameThem) {
  const auto wrong = [&](const ServerTls& tls, const std::string& what) {
    EXPECT_THAT(Serve(tls), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  wrong({own_.certificate, "", ""}, "the key is missing");
  wrong({"", own_.key, ""}, "the certificate is missing");
  wrong({"", "", own_.certificate}, "the certificate is missing");
  wrong({dir_.Path("absent.pem"), own_.key, ""}, "absent.pem: no PEM certificate chain");
  wrong({own_.certificate, own_.certificate, ""}, own_.certificate + ": no PEM key");
  wrong({own_.certificate, MakeCertificate(dir_.Path(""), "other").key, ""}, "other.key.pem: no PEM key");
  wrong({own_.certificate, own_.key, own_.key}, own_.key + ": no PEM authority");
}

}  // namespace
}  // namespace conclave::http
