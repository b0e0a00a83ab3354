// SPDX-License-Identifier: Apache-2.0
// `conclave up` as a person starts it: what is asked of the orchestrator reaches it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "common/clock.h"
#include "common/file.h"
#include "orchestrator/http/http_client.h"
#include "orchestrator/http/tls_testing.h"
#include "tests/integration/command_line.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"

namespace conclave {
namespace {

TEST(Up, HandsOnWhatItIsToldOfTheDoor) {
  std::signal(SIGPIPE, SIG_IGN);  // as every program of ours does
  const testing::TempDir dir;
  testing::TinyModel().Write(dir.Path("tiny.gguf"));
  const std::string fleet = dir.Path("fleet.textproto"), token = dir.Path("token"), store = dir.Path("up.sqlite");
  ASSERT_OK(WriteFileAtomically(
      fleet, "member { name: \"m\" model { path: \"tiny.gguf\" threads: 1 kv_bytes: 33554432 } }\n"));
  const http::TestCertificate own = http::MakeCertificate(dir.path(), "door");
  ASSERT_OK(WriteFileAtomically(token, "secret\n"));
  testing::ChildProcess up({Program("conclave"), "up", fleet, "--http", "localhost:0", "--http-tls-cert",
                            own.certificate, "--http-tls-key", own.key, "--http-token-file", token, "--store", store,
                            "--log-level", "warn"});
  ASSERT_TRUE(up.ReadLine().has_value()) << up.ReadErrors();
  const auto serving = up.ReadLine();
  ASSERT_TRUE(serving.has_value()) << up.ReadErrors();
  EXPECT_TRUE(std::filesystem::exists(store));
  const auto ask = [&](const std::string& bearer) {
    http::Post post(
        {.tls = true, .host = "localhost", .port = std::stoi(serving->substr(serving->rfind(':') + 1)), .path = "/v1"},
        {}, own.certificate, Clock::System());
    int status = 0;
    const absl::Status sent = post.Run(
        "/v1/chat/completions", {{"Content-Type", "application/json"}, {"Authorization", "Bearer " + bearer}},
        R"({"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": "1+1?"}]})",
        [&](const http::ReplyHead& head) {
          status = head.status;
          return true;
        },
        [](std::string_view) { return true; });
    EXPECT_TRUE(sent.ok() || bearer != "secret") << sent;
    return status;
  };
  EXPECT_EQ(ask("secret"), 200);
  EXPECT_EQ(ask("guessed"), 401);
  up.Signal(SIGTERM);
  EXPECT_EQ(up.Wait(), 0);
  // Mistakes are told before a model is loaded: the fleet's does not exist.
  ASSERT_OK(WriteFileAtomically(fleet, "member { name: \"m\" model { path: \"absent.gguf\" } }\n"));
  for (const auto& [flags, part] : std::vector<std::pair<Words, std::string>>{
           {{"--http-drain-seconds", "3601"}, "--http-drain-seconds"},
           {{"--http", "0.0.0.0:0"}, "--insecure-listen"},
           {{"--http", "127.0.0.1:0", "--http-tls-key", own.key}, "--http-tls-cert"},
           {{"--http", "127.0.0.1:0", "--http-token-file", dir.Path("absent")}, dir.Path("absent")},
           {{"--listen", "0.0.0.0:0"}, "--tls-cert"}}) {
    Words words = {"up", fleet, "--log-level", "off"};
    words.insert(words.end(), flags.begin(), flags.end());
    const Ended wrong = RunProgram("conclave", words);
    EXPECT_EQ(wrong.code, 2) << part;
    EXPECT_THAT(wrong.errors, ::testing::ElementsAre(::testing::HasSubstr(part)));
  }
}

}  // namespace
}  // namespace conclave
