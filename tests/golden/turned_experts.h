// SPDX-License-Identifier: Apache-2.0
// gpt-oss's experts in the forms they are stored in.
#pragma once

#include <string>
#include <vector>

#include "tests/golden/family_files.h"
#include "tests/testing/safetensors_writer.h"

namespace conclave::testing {

// F32 or BF16.
std::string PlainBytes(engine::DType dtype, const std::vector<float>& values);

// As GGUF stores MXFP4; the values must be what it holds.
std::string MicroscaledBytes(const std::vector<float>& values);

// `tensor` [E, rows, columns] under `name`: turned, or as codes and scales.
void AddTurnedExperts(const std::string& name, const FamilyTensor& tensor, engine::DType dtype, ExpertForm form,
                      SafetensorsWriter* w);

// What GGUF makes of a tensor or bias of experts called "blk.N.mlp.experts.gate_up_proj", ..: gate and up apart. Empty
// for any other.
struct NamedTensor {
  std::string name;
  FamilyTensor tensor;
};
std::vector<NamedTensor> GgufExpertParts(const std::string& name, const FamilyTensor& tensor);

}  // namespace conclave::testing
