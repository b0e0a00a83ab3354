// SPDX-License-Identifier: Apache-2.0
// Every block format of GGUF through the whole engine: a model in that format against the float64 engine on the numbers
// that the format makes of its weights (which quant_test compares with ggml's bit for bit).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "common/status.h"
#include "engine/engine.h"
#include "engine/format/gguf.h"
#include "engine/tensor/dtype.h"
#include "tests/testing/divergence.h"
#include "tests/testing/generation.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"

namespace conclave::engine {
namespace {

using testing::Generation;
using testing::GgufWriter;
using testing::TinyModel;
using testing::TinyModelOptions;

// Rows of 256 and 512: one and two blocks of the largest kind.
TinyModelOptions Model(DType dtype, double spread = 1) {
  TinyModelOptions o;
  o.hidden = 256;
  o.feed_forward = 512;
  o.tied_head = false;
  o.head_scale = spread;
  o.matrices = dtype;
  return o;
}

// What one engine makes of the prompt: logits of every position, and greedy tokens.
struct Answer {
  std::vector<float> logits;
  std::vector<TokenId> greedy;
  bool skipped = false;
};

std::vector<TokenId> Prompt() {
  std::vector<TokenId> tokens;
  for (int i = 0; i < 70; ++i) tokens.push_back((37 * i + 11) % 256);
  return tokens;
}

Answer Ask(const std::string& path, const std::string& kernel) {
  EngineOptions options;
  options.model_path = path;
  options.kernel = kernel;
  options.threads = 1;
  options.kv_bytes = 4 << 20;
  options.step_tokens_max = 33;  // the prompt crosses chunks and pages
  options.sequences_max = 4;
  auto engine = Engine::Create(options);
  if (!engine.ok() && Message(engine.status()).find("this CPU") != std::string_view::npos) return {{}, {}, true};
  EXPECT_OK(engine);
  Answer answer;
  if (!engine.ok()) return answer;
  EXPECT_OK((*engine)->Logits(Prompt(), &answer.logits));
  GenerateRequest request;
  request.prompt = Prompt();
  request.sampling.temperature = 0;
  request.stopping.output_tokens_max = 24;
  request.stopping.ignore_end_of_sequence = true;
  auto generation = std::make_shared<Generation>();
  EXPECT_OK((*engine)->Submit(request, generation));
  EXPECT_OK(generation->Wait().status());
  answer.greedy = generation->sample().tokens;
  return answer;
}

// Over all positions: the mean divergence of the softmax from the expected one, the largest difference of a logit, and
// the mean square of differences over that of the logits.
struct Difference {
  double divergence = 0, logit = 0, nmse = 0;
};
Difference Compare(const std::vector<float>& logits, const std::vector<float>& expected) {
  constexpr size_t kVocab = testing::kTinyVocab;
  Difference worst;
  double error = 0, power = 0;
  for (size_t row = 0; row < expected.size(); row += kVocab) {
    for (size_t i = row; i < row + kVocab; ++i) {
      const double difference = double{logits[i]} - expected[i];
      worst.logit = std::max(worst.logit, std::abs(difference));
      error += difference * difference;
      power += double{expected[i]} * expected[i];
    }
    const std::span<const float> one(logits), other(expected);
    worst.divergence += testing::Divergence(one.subspan(row, kVocab), other.subspan(row, kVocab)) * kVocab /
                        static_cast<double>(expected.size());
  }
  worst.nmse = error / power;
  return worst;
}

// These kernels round activations to 8 bits, with a step of a block's largest / 127: 3e-5 of mean square error where
// they are normal (ops_conformance_test), twice that where SwiGLU made a few large. Nine products lie between a token
// and its logits, and random layers pass errors on undiminished. No one of 18,000 logits is further off than six sigma.
//
// Errors d of logits that are small move the softmax p by a divergence of Var_p(d) / 2 (its second order). Here p is
// nearly flat and the variance of d is nmse times the logits' spread squared, so the divergence is spread^2 nmse / 2;
// a fifth more is left for sampling. Below 1e-4 it is for spreads up to 0.55; models with a wider one are further
// apart.
constexpr double kRoundedNmse = 9 * 6e-5;
constexpr double RoundedDivergence(double spread) { return 0.6 * spread * spread * kRoundedNmse; }
static_assert(RoundedDivergence(0.5) < 1e-4);

class GgufFormats : public ::testing::TestWithParam<DType> {
 protected:
  testing::TempDir folder_;
};

TEST_P(GgufFormats, EqualTheirDecodedWeights) {
  for (const double spread : {1.0, 0.5}) {
    TinyModelOptions model = Model(GetParam(), spread);
    const std::string path = folder_.Path("blocks.gguf"), decoded_path = folder_.Path("decoded.gguf");
    TinyModel(model).Write(path);
    model.decoded = true;
    TinyModel(model).Write(decoded_path);
    const Answer expected = Ask(decoded_path, "reference");
    ASSERT_EQ(expected.logits.size(), Prompt().size() * testing::kTinyVocab);
    for (const char* kernel : {"reference", "scalar", "avx2", "avx512"}) {
      const Answer answer = Ask(path, kernel);
      if (answer.skipped) continue;
      ASSERT_EQ(answer.logits.size(), expected.logits.size());
      const Difference worst = Compare(answer.logits, expected.logits);
      std::printf("%s %s, spread %g: largest difference %.2g, divergence %.2g, nmse %.2g\n",
                  std::string(Name(GetParam())).c_str(), kernel, spread, worst.logit, worst.divergence, worst.nmse);
      const bool rounds = std::string_view(kernel).starts_with("avx");
      EXPECT_LE(worst.nmse, rounds ? kRoundedNmse : 1e-11) << kernel;
      EXPECT_LE(worst.logit, rounds ? 6 * spread * std::sqrt(kRoundedNmse) : 1e-3) << kernel;
      EXPECT_LE(worst.divergence, rounds ? RoundedDivergence(spread) : 1e-11) << kernel;
      if (!rounds) {
        EXPECT_EQ(answer.greedy, expected.greedy) << kernel;
      }
    }
  }
}

GgufWriter PartHead(uint16_t number, uint16_t count, size_t tensors) {
  GgufWriter w;
  w.Add("split.no", number).Add("split.count", count).Add("split.tensors.count", static_cast<int32_t>(tensors));
  return w;
}

// The model in three files: metadata and no tensor, some tensors, the rest. Returns the first.
std::string WriteSplit(const GgufFile& whole, const testing::TempDir& folder) {
  const size_t tensors = whole.tensors().size(), cut = tensors / 3;
  GgufWriter parts[] = {PartHead(0, 3, tensors), PartHead(1, 3, tensors), PartHead(2, 3, tensors)};
  for (const std::string_view key : whole.keys()) {
    const GgufValue& value = *whole.Find(key);
    const std::string_view bytes(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
    if (value.type == GgufType::kString) {
      parts[0].Add(key, bytes);
    } else if (!value.strings.empty()) {
      parts[0].AddArray(key, std::vector<std::string>(value.strings.begin(), value.strings.end()));
    } else if (value.type == GgufType::kArray) {
      parts[0].AddRawArray(key, static_cast<uint32_t>(value.element_type), value.element_count, bytes);
    } else {
      parts[0].AddRaw(key, static_cast<uint32_t>(value.type), bytes);
    }
  }
  for (size_t i = 0; i < tensors; ++i) {
    const CheckpointTensor& t = whole.tensors()[i];
    parts[i < cut ? 1 : 2].AddTensor(t.name, t.dtype, t.shape,
                                     std::string(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()));
  }
  for (int i = 0; i < 3; ++i) parts[i].Write(folder.Path(fmt::format("m-{:05}-of-00003.gguf", i + 1)));
  return folder.Path("m-00001-of-00003.gguf");
}

TEST(SplitGgufModel, SaysTheSameAsOneFile) {
  const testing::TempDir folder;
  const std::string bytes = TinyModel(Model(DType::kQ4_K)).Build();
  std::ofstream(folder.Path("m.gguf"), std::ios::binary) << bytes;
  const auto whole = GgufFile::Parse("m.gguf", std::as_bytes(std::span(bytes)));
  ASSERT_OK(whole);
  const Answer one = Ask(folder.Path("m.gguf"), "auto"), split = Ask(WriteSplit(**whole, folder), "auto");
  EXPECT_FALSE(one.logits.empty());
  EXPECT_EQ(one.logits, split.logits);
  EXPECT_EQ(one.greedy, split.greedy);
}

INSTANTIATE_TEST_SUITE_P(All, GgufFormats,
                         ::testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                                           DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
                                           DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4),
                         [](const auto& tested) { return std::string(Name(tested.param)); });

}  // namespace
}  // namespace conclave::engine
