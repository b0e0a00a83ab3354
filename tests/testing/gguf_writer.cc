// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/gguf_writer.h"

#include <fstream>

#include "common/check.h"

namespace conclave::testing {
namespace {

template <typename T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string* out, std::string_view text) {
  Append<uint64_t>(out, text.size());
  out->append(text);
}

uint64_t RoundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

uint32_t GgufTensorType(engine::DType dtype) {
  using engine::DType;
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ8_0:
      return 8;
    case DType::kQ2_K:
      return 10;
    case DType::kQ3_K:
      return 11;
    case DType::kQ4_K:
      return 12;
    case DType::kQ5_K:
      return 13;
    case DType::kQ6_K:
      return 14;
    case DType::kIQ4_NL:
      return 20;
    case DType::kIQ4_XS:
      return 23;
    case DType::kI8:
      return 24;
    case DType::kI16:
      return 25;
    case DType::kI32:
      return 26;
    case DType::kI64:
      return 27;
    case DType::kF64:
      return 28;
    case DType::kBF16:
      return 30;
    case DType::kMXFP4:
      return 39;
    case DType::kU8:
    case DType::kF8_E4M3:
    case DType::kInt4_G32:
    case DType::kInt4_G64:
    case DType::kInt4_G128:
    case DType::kInt8_G32:
    case DType::kInt8_G128:
    case DType::kFp8_G128:
      break;
  }
  CONCLAVE_CHECK_MSG(false, "GGUF has no such type");
}

GgufWriter& GgufWriter::Add(std::string_view key, std::string_view value) {
  std::string bytes;
  AppendString(&bytes, value);
  return AddRaw(key, 8, bytes);
}

GgufWriter& GgufWriter::AddArray(std::string_view key, const std::vector<std::string>& values) {
  std::string bytes;
  for (const std::string& value : values) AppendString(&bytes, value);
  return AddRawArray(key, 8, values.size(), bytes);
}

GgufWriter& GgufWriter::AddTensor(std::string_view name, engine::DType dtype, const engine::Shape& shape,
                                  std::string bytes) {
  const int64_t rows = shape.elements() / shape.back();
  CONCLAVE_CHECK(static_cast<int64_t>(bytes.size()) == rows * engine::RowBytes(dtype, shape.back()));
  Tensor tensor = {std::string(name), {}, GgufTensorType(dtype), false, 0, std::move(bytes)};
  for (int i = shape.rank(); i-- > 0;) tensor.dims.push_back(static_cast<uint64_t>(shape[i]));
  tensors_.push_back(std::move(tensor));
  return *this;
}

GgufWriter& GgufWriter::AddTensor(std::string_view name, const engine::Shape& shape, const std::vector<float>& values) {
  return AddTensor(name, engine::DType::kF32, shape, std::string(Bytes(values.data(), values.size() * sizeof(float))));
}

GgufWriter& GgufWriter::AddRaw(std::string_view key, uint32_t type, std::string_view value) {
  AppendString(&values_, key);
  Append(&values_, type);
  values_.append(value);
  ++num_values_;
  return *this;
}

GgufWriter& GgufWriter::AddRawArray(std::string_view key, uint32_t element_type, uint64_t declared_count,
                                    std::string_view bytes) {
  std::string value;
  Append(&value, element_type);
  Append(&value, declared_count);
  value.append(bytes);
  return AddRaw(key, 9, value);
}

GgufWriter& GgufWriter::AddRawTensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                                     uint64_t offset) {
  tensors_.push_back({std::string(name), dims, type, true, offset, ""});
  return *this;
}

std::string GgufWriter::Build() const {
  std::string out = "GGUF";
  Append(&out, version);
  Append<uint64_t>(&out, tensors_.size());
  Append<uint64_t>(&out, num_values_ + (alignment == 32 ? 0 : 1));
  out += values_;
  if (alignment != 32) {
    AppendString(&out, "general.alignment");
    Append<uint32_t>(&out, 4);
    Append(&out, alignment);
  }
  std::string data;
  for (const Tensor& tensor : tensors_) {
    AppendString(&out, tensor.name);
    Append<uint32_t>(&out, static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) Append(&out, dim);
    Append(&out, tensor.type);
    Append<uint64_t>(&out, tensor.raw ? tensor.raw_offset : data.size());
    data += tensor.bytes;
    data.resize(RoundUp(data.size(), alignment), '\0');
  }
  out.resize(RoundUp(out.size(), alignment), '\0');
  return out + data;
}

void GgufWriter::Write(const std::string& path) const {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  const std::string bytes = Build();
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  CONCLAVE_CHECK(out.good());
}

}  // namespace conclave::testing
