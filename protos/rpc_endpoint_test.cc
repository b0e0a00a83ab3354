// SPDX-License-Identifier: Apache-2.0
#include "protos/rpc_endpoint.h"

#include "common/file.h"
#include "common/status.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::rpc {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

TEST(RpcEndpoint, AddressesAreParsed) {
  const auto parsed = ParseAddress("127.0.0.1:50051");
  ASSERT_OK(parsed);
  EXPECT_EQ(parsed->host, "127.0.0.1");
  EXPECT_EQ(parsed->port, 50051);
  EXPECT_EQ(ParseAddress("[::1]:0")->host, "::1");
  EXPECT_EQ(ParseAddress("worker-3:65535")->port, 65535);
  EXPECT_OK(ParseAddress("unix:/tmp/x.sock"));
  for (const char* bad :
       {"", "50051", "host", ":1", "host:", "host:65536", "host:-1", "host:1x", "::1:50051", "unix:"}) {
    EXPECT_THAT(ParseAddress(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad))) << bad;
  }
}

TEST(RpcEndpoint, OnlyThisMachineIsLoopback) {
  for (const char* local : {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/tmp/x.sock"}) {
    EXPECT_TRUE(IsLoopback(*ParseAddress(local))) << local;
  }
  for (const char* far :
       {"0.0.0.0:1", "128.0.0.1:1", "[::]:1", "[::ffff:127.0.0.1]:1", "worker-3:1", "127.0.0.1.evil:1"}) {
    EXPECT_FALSE(IsLoopback(*ParseAddress(far))) << far;
  }
}

TEST(RpcEndpoint, PlaintextOffLoopbackNeedsToBeAskedFor) {
  EXPECT_OK(ServerCredentials("127.0.0.1:0", {}, PlaintextPolicy::kLoopbackOnly));
  EXPECT_THAT(ServerCredentials("0.0.0.0:0", {}, PlaintextPolicy::kLoopbackOnly),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("--insecure-listen")));
  EXPECT_OK(ServerCredentials("0.0.0.0:0", {}, PlaintextPolicy::kAnywhere));
}

TEST(RpcEndpoint, TlsFilesAreCheckedBeforeUse) {
  const conclave::testing::TempDir dir;
  const std::string pem = dir.Path("a.pem");
  ASSERT_OK(WriteFileAtomically(pem, "-----BEGIN CERTIFICATE-----\n"));
  const std::string not_pem = dir.Path("b.pem");
  ASSERT_OK(WriteFileAtomically(not_pem, "hello"));
  const auto serve = [](const TlsFiles& tls) {
    return ServerCredentials("0.0.0.0:0", tls, PlaintextPolicy::kLoopbackOnly).status();
  };
  EXPECT_THAT(serve({pem, "", ""}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("give both")));
  EXPECT_THAT(serve({pem, dir.Path("none"), ""}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("TLS key")));
  EXPECT_THAT(serve({pem, not_pem, ""}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a PEM file")));
  EXPECT_THAT(serve({"", "", pem}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--tls-cert")));
  EXPECT_OK(ChannelCredentials({}));
  EXPECT_THAT(ChannelCredentials({pem, pem, ""}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("authority")));
}

}  // namespace
}  // namespace conclave::rpc
