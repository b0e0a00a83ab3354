// SPDX-License-Identifier: Apache-2.0
#include "engine/format/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "engine/format/byte_reader.h"
#include "engine/format/json.h"

namespace conclave::engine {
namespace {

constexpr int64_t kDimensionMax = int64_t{1} << 40;

constexpr std::array kDTypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8_E4M3,
                                DType::kI32, DType::kI8,  DType::kU8,   DType::kI64};

std::optional<DType> ParseSafetensorsDType(std::string_view name) {
  for (const DType dtype : kDTypes) {
    if (Name(dtype) == name) return dtype;
  }
  return std::nullopt;
}

absl::StatusOr<Shape> ReadShape(const JsonValue& value) {
  ASSIGN_OR_RETURN(const std::vector<JsonValue> list, value.Array());
  if (list.size() > Shape::kRankMax) {
    return value.Invalid(fmt::format("has {} dimensions, at most {} allowed", list.size(), Shape::kRankMax));
  }
  std::array<int64_t, Shape::kRankMax> dims = {};
  int64_t elements = 1;
  for (size_t i = 0; i < list.size(); ++i) {
    ASSIGN_OR_RETURN(dims[i], list[i].Integer(1, kDimensionMax));
    if (__builtin_mul_overflow(elements, dims[i], &elements) || elements > kDimensionMax) {
      return value.Invalid(fmt::format("has more than {} elements", kDimensionMax));
    }
  }
  return Shape(std::span<const int64_t>(dims.data(), list.size()));
}

absl::StatusOr<CheckpointTensor> ReadTensor(const JsonValue& value, std::span<const std::byte> data) {
  ASSIGN_OR_RETURN(const JsonObject entry, value.Object());
  for (const auto& [key, member] : entry.members()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") return member.Invalid("is no known key of a tensor");
  }
  ASSIGN_OR_RETURN(const JsonValue dtype_value, entry.Get("dtype"));
  ASSIGN_OR_RETURN(const std::string_view dtype_name, dtype_value.String());
  const std::optional<DType> dtype = ParseSafetensorsDType(dtype_name);
  if (!dtype.has_value()) {
    std::string known;
    for (const DType d : kDTypes) known.append(" ").append(Name(d));
    return dtype_value.Invalid(fmt::format("is \"{}\"; known are{}", dtype_name, known));
  }
  ASSIGN_OR_RETURN(const JsonValue shape_value, entry.Get("shape"));
  ASSIGN_OR_RETURN(const Shape shape, ReadShape(shape_value));
  ASSIGN_OR_RETURN(const JsonValue offsets_value, entry.Get("data_offsets"));
  ASSIGN_OR_RETURN(const std::vector<JsonValue> offsets, offsets_value.Array());
  if (offsets.size() != 2) return offsets_value.Invalid(fmt::format("has {} numbers, 2 expected", offsets.size()));
  const auto size = static_cast<int64_t>(data.size());
  ASSIGN_OR_RETURN(const int64_t begin, offsets[0].Integer(0, size));
  ASSIGN_OR_RETURN(const int64_t end, offsets[1].Integer(begin, size));
  const int64_t expected = shape.elements() * Traits(*dtype).block_bytes;
  if (end - begin != expected) {
    return offsets_value.Invalid(
        fmt::format("spans {} bytes, {} {} has {}", end - begin, dtype_name, shape.ToString(), expected));
  }
  return CheckpointTensor{.name = {},
                          .dtype = *dtype,
                          .shape = shape,
                          .bytes = data.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))};
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapped, MappedFile::Open(path));
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile());
  file->path_ = path;
  file->bytes_ = mapped->bytes();
  file->file_ = std::move(mapped);
  const absl::Status status = file->ParseHeader();
  RETURN_IF_ERROR(file->CheckIntact());  // before the parser's opinion of bytes that vanished
  RETURN_IF_ERROR(status);
  return file;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Parse(std::string name,
                                                                        std::span<const std::byte> bytes) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile());
  file->path_ = std::move(name);
  file->bytes_ = bytes;
  RETURN_IF_ERROR(file->ParseHeader());
  return file;
}

absl::Status SafetensorsFile::ParseHeader() {
  ByteReader reader(bytes_);
  const std::optional<uint64_t> size = reader.Read<uint64_t>();
  if (!size.has_value()) return ModelFileInvalid(path_, "{} bytes are too few for a safetensors file", bytes_.size());
  if (*size > kSafetensorsHeaderBytesMax) {
    return ModelFileInvalid(path_, "the safetensors header has {} bytes, at most {} allowed", *size,
                            kSafetensorsHeaderBytesMax);
  }
  const std::optional<std::span<const std::byte>> header = reader.ReadBytes(*size);
  if (!header.has_value()) {
    return ModelFileInvalid(path_, "truncated: the safetensors header has {} bytes, {} are left", *size,
                            reader.remaining());
  }
  header_ = bytes_.subspan(0, reader.offset());
  data_ = bytes_.subspan(reader.offset());
  RETURN_IF_ERROR(ParseTable());
  return CheckCover();
}

absl::Status SafetensorsFile::ParseTable() {
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> json,
                   JsonDocument::Parse(path_, AsText(header_.subspan(sizeof(uint64_t))), kSafetensorsHeaderBytesMax));
  ASSIGN_OR_RETURN(const JsonObject table, json->root().Object());
  if (table.members().size() > kSafetensorsTensorsMax) {
    return ModelFileInvalid(path_, "{} tensors, at most {} allowed", table.members().size(), kSafetensorsTensorsMax);
  }
  names_.reserve(table.members().size());  // views point at them
  for (const auto& [name, value] : table.members()) {
    if (name == "__metadata__") continue;  // free text about the file's making
    if (name.empty() || name.size() > kSafetensorsNameBytesMax) {
      return ModelFileInvalid(path_, "a tensor's name has {} bytes, 1 to {} allowed", name.size(),
                              kSafetensorsNameBytesMax);
    }
    ASSIGN_OR_RETURN(CheckpointTensor tensor, ReadTensor(value, data_));
    names_.emplace_back(name);
    tensor.name = names_.back();
    tensors_.push_back(tensor);
  }
  return absl::OkStatus();
}

// The format's own rule: tensors lie end to end and fill the file, so that no byte can mean two things or none.
absl::Status SafetensorsFile::CheckCover() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const auto& a, const auto& b) { return a.bytes.data() < b.bytes.data(); });
  const std::byte* end = data_.data();
  for (const CheckpointTensor& tensor : tensors_) {
    if (tensor.bytes.data() != end) {
      return ModelFileInvalid(path_,
                              "tensor \"{}\" begins at byte {} of the data, {} expected: tensors must lie end to end",
                              tensor.name, tensor.bytes.data() - data_.data(), end - data_.data());
    }
    end += tensor.bytes.size();
  }
  if (end != data_.data() + data_.size()) {
    return ModelFileInvalid(path_, "the tensors fill {} bytes, but {} follow the header", end - data_.data(),
                            data_.size());
  }
  return absl::OkStatus();
}

absl::Status SafetensorsFile::CheckIntact() const { return file_ == nullptr ? absl::OkStatus() : file_->CheckIntact(); }

void SafetensorsFile::DropResident(std::span<const std::byte> bytes) const {
  if (file_ == nullptr || bytes.data() < bytes_.data() || bytes.data() >= bytes_.data() + bytes_.size()) return;
  file_->DropResident(bytes);
}

}  // namespace conclave::engine
