// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/dtype.h"

#include <array>

#include "common/check.h"

namespace conclave::engine {
namespace {

// In the order of the enum. Block sizes: ggml's block structs.
constexpr std::array<DTypeTraits, 29> kTraits = {{
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"F64", 1, 8},
    {"I8", 1, 1},
    {"I16", 1, 2},
    {"I32", 1, 4},
    {"I64", 1, 8},
    {"U8", 1, 1},
    {"F8_E4M3", 1, 1},
    {"Q4_0", 32, 18},
    {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},
    {"Q8_0", 32, 34},
    {"Q2_K", 256, 84},
    {"Q3_K", 256, 110},
    {"Q4_K", 256, 144},
    {"Q5_K", 256, 176},
    {"Q6_K", 256, 210},
    {"IQ4_NL", 32, 18},
    {"IQ4_XS", 256, 136},
    {"MXFP4", 32, 17},
    // a scale and zero point of 4 bytes, then codes
    {"INT4_G32", 32, 20},
    {"INT4_G64", 64, 36},
    {"INT4_G128", 128, 68},
    {"INT8_G32", 32, 36},
    {"INT8_G128", 128, 132},
    {"FP8_G128", 128, 132, /*cut_tail=*/true},
}};
static_assert(kTraits.size() == static_cast<size_t>(DType::kFp8_G128) + 1);

}  // namespace

const DTypeTraits& Traits(DType dtype) { return kTraits[static_cast<size_t>(dtype)]; }

std::optional<DType> ParseDType(std::string_view name) {
  for (size_t i = 0; i < kTraits.size(); ++i) {
    if (kTraits[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

bool HasRowsOf(DType dtype, int64_t elements) {
  const DTypeTraits& traits = Traits(dtype);
  return elements >= 0 && (traits.cut_tail || elements % traits.block_elements == 0);
}

int64_t RowBytes(DType dtype, int64_t elements) {
  const DTypeTraits& traits = Traits(dtype);
  CONCLAVE_CHECK(HasRowsOf(dtype, elements));
  const int64_t rest = elements % traits.block_elements;
  const int64_t tail = rest > 0 ? traits.block_bytes - (traits.block_elements - rest) : 0;
  return elements / traits.block_elements * traits.block_bytes + tail;
}

}  // namespace conclave::engine
