// SPDX-License-Identifier: Apache-2.0
// A model in a folder of its own, damaged again and again and loaded through the whole engine: each copy is an error
// that says what is wrong, or a model that computes. Memory stays below half a gigabyte throughout.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "engine/engine.h"
#include "engine/loader.h"
#include "tests/testing/corruption.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::testing {

// What the loader may answer: not a fault of ours, and what was found in which file.
inline bool IsClear(const absl::Status& status, const std::string& folder) {
  switch (status.code()) {
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kResourceExhausted:
      return status.message().find(folder) != std::string_view::npos ||
             status.code() == absl::StatusCode::kResourceExhausted;
    default:
      return false;
  }
}

class DamagedModel : public ::testing::Test {
 protected:
  ~DamagedModel() override { EXPECT_TRUE(MemoryStayedSmall()); }

  void Put(const std::string& name, std::string_view bytes) const {
    std::filesystem::remove(dir_.Path(name));  // some filesystems flush what replaces a file's content
    std::ofstream out(dir_.Path(name), std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  // Loads what lies at `name`; a few of those that load also compute, on the engine's own thread.
  absl::Status Load(const std::string& name) {
    engine::EngineOptions options;
    options.model_path = name.empty() ? dir_.path() : dir_.Path(name);
    options.tokenizer_optional = true;
    options.kernel = "scalar";
    options.threads = 1;
    options.kv_bytes = 1 << 20;
    options.sequences_max = 2;
    options.step_tokens_max = 8;
    const absl::Status loaded = engine::LoadModel(options).status();
    EXPECT_TRUE(loaded.ok() || IsClear(loaded, dir_.path())) << loaded;
    if (!loaded.ok() || ++loaded_ % 16 != 0) return loaded;
    const auto engine = engine::Engine::Create(options);
    EXPECT_OK(engine);
    std::vector<float> logits;
    // Weights may have become what is no number, and the vocabulary shorter.
    const absl::Status computed = (*engine)->Logits(std::vector<engine::TokenId>{1, 2, 3}, &logits);
    EXPECT_NE(computed.code(), absl::StatusCode::kInternal) << computed;
    return loaded;
  }

  // Every length and many flips of the file `damaged`, which is part of the model at `model`.
  void Damage(const std::string& model, const std::string& damaged, std::string_view bytes, uint64_t seed) {
    Put(damaged, bytes);
    ASSERT_OK(Load(model));
    ForEveryTruncation(bytes, [&](std::string_view cut) {
      Put(damaged, cut);
      Load(model).IgnoreError();
    });
    int working = 0;
    ForRandomFlips(bytes, seed, [&](std::string_view flipped) {
      Put(damaged, flipped);
      working += Load(model).ok() ? 1 : 0;
    });
    Put(damaged, bytes);
    std::printf("%s: %zu bytes, %d of %d flipped copies load\n", damaged.c_str(), bytes.size(), working,
                kFlippedCopies);
    EXPECT_LT(working, kFlippedCopies);
  }

  TempDir dir_;
  int loaded_ = 0;
};

}  // namespace conclave::testing
