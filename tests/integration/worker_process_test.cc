// SPDX-License-Identifier: Apache-2.0
// The real conclave-worker process, on a small model with random weights: start, stream, cancel, drain, die.
#include <grpcpp/create_channel.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/status.h"
#include "protos/rpc_endpoint.h"
#include "protos/rpc_status.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"
#include "worker/worker_testing.h"

namespace conclave {
namespace {

namespace pb = ::conclave::inference::v1;
using ::conclave::testing::ChildProcess;
using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::conclave::testing::TempDir;
using ::conclave::testing::TinyModel;
using ::conclave::worker::Events;
using ::conclave::worker::GenerateCall;
using ::conclave::worker::TextOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

const std::string kProgram = std::string(CONCLAVE_BINARY_DIR) + "/bin/conclave-worker";
constexpr int32_t kContext = 2048;

// The model file, made once for all tests.
const std::string& ModelPath() {
  static const TempDir* const dir = new TempDir;
  static const std::string* const path = [] {
    TinyModel({.context_tokens = kContext}).Write(dir->Path("tiny.gguf"));
    return new std::string(dir->Path("tiny.gguf"));
  }();
  return *path;
}

// A started worker and a client of it.
class Worker {
 public:
  explicit Worker(std::vector<std::string> flags = {}, const rpc::TlsFiles& client_tls = {}) {
    std::vector<std::string> arguments = {kProgram,     "--model",    ModelPath(), "--listen", "127.0.0.1:0",
                                          "--threads",  "1",          "--kernel",  "scalar",   "--name",
                                          "tiny model", "--kv-bytes", "32MiB"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    process_ = std::make_unique<ChildProcess>(arguments);
    if (const auto line = process_->ReadLine()) serving_ = *line;
    EXPECT_FALSE(serving_.empty()) << "stderr: " << process_->ReadErrors();
    const size_t begin = serving_.find(" on ") + 4;
    address_ = serving_.substr(begin, serving_.find(' ', begin) - begin);
    grpc::ChannelArguments arguments_of_channel = rpc::ChannelArguments();
    arguments_of_channel.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto credentials = rpc::ChannelCredentials(client_tls);
    CONCLAVE_CHECK(credentials.ok());
    stub_ = pb::InferenceService::NewStub(grpc::CreateCustomChannel(address_, *credentials, arguments_of_channel));
  }

  ChildProcess& process() { return *process_; }
  const std::string& serving() const { return serving_; }
  pb::InferenceService::Stub* stub() { return stub_.get(); }

  pb::GetLoadResponse Load() {
    grpc::ClientContext context;
    pb::GetLoadResponse response;
    EXPECT_OK(rpc::FromGrpc(stub_->GetLoad(&context, {}, &response)));
    return response;
  }
  // SIGTERM, and the exit code.
  int Stop() {
    process_->Signal(SIGTERM);
    return process_->Wait();
  }

 private:
  std::unique_ptr<ChildProcess> process_;
  std::string serving_, address_;
  std::unique_ptr<pb::InferenceService::Stub> stub_;
};

pb::GenerateRequest Request(int32_t output_tokens, int32_t samples = 1) {
  pb::GenerateRequest request;
  request.mutable_prompt()->set_text("the thing");
  request.set_sample_count(samples);
  request.set_seed(7);
  request.mutable_stopping()->set_max_output_token_count(output_tokens);
  request.mutable_stopping()->set_ignore_end_of_sequence(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}
// Far more than any test waits for.
pb::GenerateRequest EndlessRequest() { return Request(kContext - 100, 32); }

std::vector<int32_t> TokensOf(const Events& events) {
  std::vector<int32_t> tokens;
  for (const auto& event : events) {
    tokens.insert(tokens.end(), event.delta().token_ids().begin(), event.delta().token_ids().end());
  }
  return tokens;
}

// What a program says on stderr and its exit code, when it must not start.
std::pair<int, std::string> Refusal(const std::vector<std::string>& flags) {
  std::vector<std::string> arguments = {kProgram};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  ChildProcess process(arguments);
  const std::string errors = process.ReadErrors();
  return {process.Wait(), errors};
}

TEST(WorkerProcess, SaysWhereItServesStreamsAndEndsOnSigterm) {
  Worker worker;
  EXPECT_THAT(worker.serving(),
              MatchesRegex("serving conclave\\.inference\\.v1 on 127\\.0\\.0\\.1:[0-9]+ model=tiny-model "
                           "instance=[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  GenerateCall call(worker.stub(), Request(32));
  Events events;
  ASSERT_OK(call.Finish(&events));
  EXPECT_TRUE(events.front().has_started());
  EXPECT_EQ(TokensOf(events).size(), 32u);
  const pb::Usage& usage = events.back().usage();
  EXPECT_EQ(usage.output_token_count(), 32);
  EXPECT_GT(usage.prompt_token_count(), 0);
  EXPECT_GT(usage.flop_count(), 0);
  EXPECT_EQ(worker.Stop(), 0);
}

TEST(WorkerProcess, AChatGoesThroughTheModelsTemplate) {
  Worker worker;
  pb::TokenizeRequest request;
  auto* const message = request.mutable_prompt()->mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("say <|im_end|>");
  grpc::ClientContext context;
  pb::TokenizeResponse response;
  ASSERT_OK(rpc::FromGrpc(worker.stub()->Tokenize(&context, request, &response)));
  EXPECT_THAT(response.text(), HasSubstr("<|im_start|>user\nsay <|im_end|><|im_end|>"));
  EXPECT_EQ(std::count(response.ids().begin(), response.ids().end(), testing::kTinyEnd), 1)
      << "the template's own only";
}

TEST(WorkerProcess, SameSeedSameTextFromTwoWorkersSideBySide) {
  Worker a, b;
  Events from_a, from_b;
  ASSERT_OK(GenerateCall(a.stub(), Request(64, 2)).Finish(&from_a));
  ASSERT_OK(GenerateCall(b.stub(), Request(64, 2)).Finish(&from_b));
  EXPECT_EQ(TextOf(from_a, 0), TextOf(from_b, 0));
  EXPECT_EQ(TextOf(from_a, 1), TextOf(from_b, 1));
  EXPECT_NE(TextOf(from_a, 0), TextOf(from_a, 1));
}

TEST(WorkerProcess, ASampleGoesOnElsewhereAsIfNothingHadHappened) {
  Worker a, b;
  Events whole, rest;
  ASSERT_OK(GenerateCall(a.stub(), Request(40)).Finish(&whole));
  const std::vector<int32_t> tokens = TokensOf(whole);
  pb::GenerateRequest request = Request(40);
  request.mutable_continuation();
  for (int i = 0; i < 15; ++i) request.mutable_continuation()->add_generated_token_ids(tokens[i]);
  ASSERT_OK(GenerateCall(b.stub(), request).Finish(&rest));
  EXPECT_EQ(TokensOf(rest), std::vector<int32_t>(tokens.begin() + 15, tokens.end()));
}

pb::GenerateRequest Constrained(const char* schema) {
  pb::GenerateRequest request = Request(200);
  request.mutable_stopping()->set_ignore_end_of_sequence(false);
  request.mutable_constraint()->set_json_schema(schema);
  return request;
}

TEST(WorkerProcess, TextsUnderASchemaAreWhatItSays) {
  Worker worker;
  Events events;
  ASSERT_OK(GenerateCall(worker.stub(), Constrained(R"({"type":"array","items":{"enum":["yes","no"]},"maxItems":3})"))
                .Finish(&events));
  const auto json = nlohmann::json::parse(TextOf(events), nullptr, false);
  ASSERT_TRUE(json.is_array() && json.size() <= 3) << TextOf(events);
  for (const auto& item : json) EXPECT_TRUE(item == "yes" || item == "no") << item;
  EXPECT_EQ(events[events.size() - 2].finished().reason(), pb::FINISH_REASON_STOP);

  const absl::Status refused =
      GenerateCall(worker.stub(), Constrained(R"({"properties":{"a":{"type":"text"}}})")).Finish();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"text\" is no type")));
  EXPECT_EQ(rpc::Reason(refused), "CONSTRAINT_INVALID");
  ASSERT_EQ(rpc::Violations(refused).size(), 1u);
  EXPECT_EQ(rpc::Violations(refused)[0].field, "constraint.json_schema");
  EXPECT_THAT(rpc::Violations(refused)[0].description, HasSubstr("at properties.a.type: "));

  grpc::ClientContext context;
  pb::GetModelResponse model;
  ASSERT_OK(rpc::FromGrpc(worker.stub()->GetModel(&context, {}, &model)));
  EXPECT_TRUE(model.model().supports_constraints());
}

TEST(WorkerProcess, ASignalWhileTheModelLoadsEndsIt) {
  ChildProcess process({kProgram, "--model", ModelPath(), "--listen", "127.0.0.1:0", "--kv-bytes", "32MiB"});
  process.Signal(SIGTERM);  // during the load, or right before or after it
  const int code = process.Wait();
  EXPECT_TRUE(code == 128 + SIGTERM || code == 0) << code;
}

TEST(WorkerProcess, CancelFreesItsSlotsAndPagesWithinTwoSeconds) {
  Worker worker;
  GenerateCall call(worker.stub(), EndlessRequest());
  while (worker.Load().running_count() < 32) ASSERT_TRUE(call.Read().has_value());
  call.Cancel();
  const int64_t begin_ns = Clock::System().NowNs();
  while (worker.Load().running_count() > 0) {
    ASSERT_LT(Clock::System().NowNs() - begin_ns, 2'000'000'000);
  }
  EXPECT_THAT(call.Finish(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_OK(GenerateCall(worker.stub(), Request(8)).Finish());
}

TEST(WorkerProcess, SigtermLetsARunningRequestFinish) {
  Worker worker;
  GenerateCall call(worker.stub(), Request(500));
  ASSERT_TRUE(call.Read().has_value());
  worker.process().Signal(SIGTERM);
  Events events;
  EXPECT_OK(call.Finish(&events));
  EXPECT_EQ(events.back().usage().output_token_count(), 500);
  EXPECT_EQ(worker.process().Wait(), 0);
}

TEST(WorkerProcess, WhatOutlastsTheGraceIsToldSoWithItsUsage) {
  Worker worker({"--grace", "1"});
  GenerateCall call(worker.stub(), EndlessRequest());
  ASSERT_TRUE(call.Read().has_value());
  worker.process().Signal(SIGTERM);
  while (!worker.Load().draining()) {
  }
  const absl::Status refused = GenerateCall(worker.stub(), Request(1)).Finish();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(rpc::Reason(refused), "DRAINING");
  Events events;
  const absl::Status status = call.Finish(&events);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(rpc::Reason(status), "DRAINING");
  EXPECT_GT(events.back().usage().output_token_count(), 0);
  EXPECT_EQ(worker.process().Wait(), 0);
}

TEST(WorkerProcess, ASecondSignalExitsAtOnce) {
  Worker worker({"--grace", "600"});
  GenerateCall call(worker.stub(), EndlessRequest());
  ASSERT_TRUE(call.Read().has_value());
  EXPECT_EQ((worker.process().Signal(SIGINT), 0), 0);
  while (!worker.Load().draining()) {
  }
  worker.process().Signal(SIGINT);
  EXPECT_EQ(worker.process().Wait(), 128 + SIGINT);
  EXPECT_THAT(call.Finish(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(WorkerProcess, ItsDeathIsUnavailableToItsClient) {
  Worker worker;
  GenerateCall call(worker.stub(), EndlessRequest());
  ASSERT_TRUE(call.Read().has_value());
  worker.process().Signal(SIGKILL);
  EXPECT_EQ(worker.process().Wait(), 128 + SIGKILL);
  EXPECT_THAT(call.Finish(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(WorkerProcess, BadRequestsAreRefusedAndOthersUnharmed) {
  Worker worker;
  GenerateCall bystander(worker.stub(), Request(400));
  pb::GenerateRequest long_prompt = Request(1);
  long_prompt.mutable_prompt()->set_text(std::string(kContext, 'x'));
  absl::Status status = GenerateCall(worker.stub(), long_prompt).Finish();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(rpc::Reason(status), "PROMPT_TOO_LONG");
  long_prompt.mutable_prompt()->set_text(std::string(9 << 20, 'x'));
  EXPECT_THAT(GenerateCall(worker.stub(), long_prompt).Finish(), StatusIs(absl::StatusCode::kResourceExhausted));
  pb::GenerateRequest wrong = Request(0);
  wrong.mutable_sampling()->set_top_p(2);
  status = GenerateCall(worker.stub(), wrong).Finish();
  EXPECT_EQ(rpc::Violations(status).size(), 2u) << status;
  pb::GenerateRequest routed = Request(1);
  routed.mutable_routing()->set_top_k(1);
  EXPECT_EQ(rpc::Reason(GenerateCall(worker.stub(), routed).Finish()), "CAPABILITY_MISSING");
  EXPECT_OK(bystander.Finish());
}

TEST(WorkerProcess, TextGoesThroughTokensAndBack) {
  Worker worker;
  pb::TokenizeRequest tokenize;
  tokenize.mutable_prompt()->set_text("the <|im_end|> caf\xC3\xA9");
  grpc::ClientContext tokenize_context, detokenize_context;
  pb::TokenizeResponse tokens;
  ASSERT_OK(rpc::FromGrpc(worker.stub()->Tokenize(&tokenize_context, tokenize, &tokens)));
  for (const int32_t id : tokens.ids()) EXPECT_NE(id, testing::kTinyEnd) << "text never becomes a special token";
  pb::DetokenizeRequest detokenize;
  *detokenize.mutable_ids() = tokens.ids();
  pb::DetokenizeResponse text;
  ASSERT_OK(rpc::FromGrpc(worker.stub()->Detokenize(&detokenize_context, detokenize, &text)));
  EXPECT_EQ(text.text(), tokenize.prompt().text());
}

TEST(WorkerProcess, ABadModelFileIsOneLineAndExit65) {
  const TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.Path("garbage.gguf"), "this is no model"));
  std::string truncated = *ReadFile(ModelPath());
  truncated.resize(truncated.size() / 2);
  ASSERT_OK(WriteFileAtomically(dir.Path("truncated.gguf"), truncated));
  for (const char* name : {"missing.gguf", "garbage.gguf", "truncated.gguf"}) {
    const auto [code, errors] = Refusal({"--model", dir.Path(name), "--listen", "127.0.0.1:0", "--log-level", "warn"});
    EXPECT_EQ(code, 65) << name << ": " << errors;
    EXPECT_THAT(errors, HasSubstr(name));
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  }
}

TEST(WorkerProcess, WrongUseIsOneLineAndExit2) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{},
                                             {"--model", "m.gguf", "--kernel", "quantum"},
                                             {"--model", "m.gguf", "--threads", "-1"},
                                             {"--model", "m.gguf", "--listen", "nowhere"},
                                             {"--model", "m.gguf", "--listen", "0.0.0.0:0"},
                                             {"--model", "m.gguf", "--tls-cert", "only.pem"}}) {
    const auto [code, errors] = Refusal(flags);
    EXPECT_EQ(code, 2) << errors;
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  }
}

// ---- TLS

// Runs openssl; false where the machine has none.
bool OpenSsl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "/usr/bin/openssl");
  ChildProcess process(arguments);
  process.ReadErrors();
  return process.Wait() == 0;
}

// A key and a certificate for it, signed by `ca` (a path without suffix), or by itself.
bool MakeCertificate(const std::string& path, const std::string& name, const std::string& ca) {
  std::vector<std::string> arguments = {"req",
                                        "-x509",
                                        "-newkey",
                                        "ec",
                                        "-pkeyopt",
                                        "ec_paramgen_curve:P-256",
                                        "-nodes",
                                        "-days",
                                        "1",
                                        "-subj",
                                        "/CN=" + name,
                                        "-addext",
                                        "subjectAltName=IP:127.0.0.1,DNS:" + name,
                                        "-keyout",
                                        path + ".key",
                                        "-out",
                                        path + ".pem"};
  if (!ca.empty()) {
    for (const std::string& more : {std::string("-CA"), ca + ".pem", std::string("-CAkey"), ca + ".key"}) {
      arguments.push_back(more);
    }
    arguments.insert(arguments.end(), {"-addext", "basicConstraints=critical,CA:FALSE"});
  }
  return OpenSsl(arguments);
}

TEST(WorkerProcess, WithAClientAuthorityOnlyItsCertificatesAreServed) {
  if (access("/usr/bin/openssl", X_OK) != 0) GTEST_SKIP() << "needs /usr/bin/openssl to make certificates";
  const TempDir dir;
  ASSERT_TRUE(MakeCertificate(dir.Path("ca"), "authority", ""));
  ASSERT_TRUE(MakeCertificate(dir.Path("server"), "localhost", dir.Path("ca")));
  ASSERT_TRUE(MakeCertificate(dir.Path("client"), "client", dir.Path("ca")));
  const std::vector<std::string> flags = {"--tls-cert",           dir.Path("server.pem"), "--tls-key",
                                          dir.Path("server.key"), "--tls-client-ca",      dir.Path("ca.pem")};
  {
    Worker worker(flags, {dir.Path("client.pem"), dir.Path("client.key"), dir.Path("ca.pem")});
    EXPECT_OK(GenerateCall(worker.stub(), Request(4)).Finish());
  }
  {
    Worker worker(flags, {"", "", dir.Path("ca.pem")});
    EXPECT_THAT(GenerateCall(worker.stub(), Request(4)).Finish(), StatusIs(absl::StatusCode::kUnavailable));
  }
}

}  // namespace
}  // namespace conclave
