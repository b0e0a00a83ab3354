// SPDX-License-Identifier: Apache-2.0
// Writes small safetensors files for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tensor/dtype.h"
#include "engine/tensor/shape.h"

namespace conclave::testing {

// Usage: SafetensorsWriter w; w.Add("a.weight", engine::Shape{2, 3}, values); w.Write(path).
class SafetensorsWriter {
 public:
  SafetensorsWriter& Add(std::string_view name, engine::DType dtype, const engine::Shape& shape, std::string bytes) {
    std::string dims;
    for (int i = 0; i < shape.rank(); ++i) dims += (i == 0 ? "" : ",") + std::to_string(shape[i]);
    header_ += header_.empty() ? "" : ",";
    header_ += "\"" + std::string(name) + "\":{\"dtype\":\"" + std::string(engine::Name(dtype)) + "\",\"shape\":[" +
               dims + "],\"data_offsets\":[" + std::to_string(data_.size()) + "," +
               std::to_string(data_.size() + bytes.size()) + "]}";
    data_ += bytes;
    return *this;
  }
  SafetensorsWriter& Add(std::string_view name, const engine::Shape& shape, const std::vector<float>& values) {
    std::string bytes(values.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return Add(name, engine::DType::kF32, shape, std::move(bytes));
  }

  std::string Build() const { return File("{" + header_ + "}", data_); }
  void Write(const std::string& path) const { std::ofstream(path, std::ios::binary) << Build(); }

  // Any header, which a reader may have to refuse.
  static std::string File(std::string_view header, std::string_view data) {
    const uint64_t size = header.size();
    std::string bytes(sizeof(size), '\0');
    std::memcpy(bytes.data(), &size, sizeof(size));
    return bytes.append(header).append(data);
  }

 private:
  std::string header_, data_;
};

}  // namespace conclave::testing
