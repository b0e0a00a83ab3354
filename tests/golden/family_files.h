// SPDX-License-Identifier: Apache-2.0
// The checkpoints of families.json, written in every form that a family comes in.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/testing/gguf_writer.h"

namespace conclave::testing {

struct FamilyTensor {
  engine::Shape shape;
  std::vector<float> values;
  float step = 0;            // of matrices: every value is this times a whole number in [-8, 7]
  bool microscaled = false;  // of gpt-oss's experts: values that MXFP4 holds
};

// A family's tensors under Hugging Face's names, and its config.json.
struct FamilyCheckpoint {
  explicit FamilyCheckpoint(const nlohmann::json& golden_case);

  nlohmann::json config;
  std::map<std::string, FamilyTensor> tensors;
};

enum class LatentForm : uint8_t {
  kSplit,   // k_b and v_b per head, as files are written today
  kJoined,  // kv_b, as they once were
};

// As llama.cpp's converter writes it; matrices in `matrices`: F32, BF16 or Q4_0 (gpt-oss's experts then in MXFP4),
// none of which changes a value. A layer of a prediction head is added where
// the config has one. Families that GGUF has no words for: an empty string comes back from GgufArchitecture.
std::string GgufArchitecture(const FamilyCheckpoint& family);
GgufWriter FamilyGguf(const FamilyCheckpoint& family, engine::DType matrices, LatentForm form = LatentForm::kSplit);

enum class ExpertForm : uint8_t {
  kSeparate,     // a tensor per expert, as checkpoints are published
  kJoined,       // all experts in one, as transformers 5 keeps them
  kMicroscaled,  // of gpt-oss: in MXFP4; in the other forms its experts lie turned, as transformers keeps them
};

// config.json and model.safetensors into an existing folder. Without a tokenizer.
void WriteFamilyDirectory(const FamilyCheckpoint& family, engine::DType matrices, ExpertForm form,
                          const std::string& folder);

}  // namespace conclave::testing
