// SPDX-License-Identifier: Apache-2.0
#include "engine/format/gguf.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "common/check.h"
#include "common/hash.h"
#include "common/status.h"
#include "engine/format/gguf_parse.h"

namespace conclave::engine {
namespace {

template <typename T>
T Load(std::span<const std::byte> bytes, uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Element `index` of integers of type `type`, widened; nullopt for a type that is not an integer. The sign is kept
// apart because no type holds both ends.
struct Integer {
  bool negative;
  uint64_t bits;  // two's complement if negative
};
std::optional<Integer> LoadInteger(GgufType type, std::span<const std::byte> bytes, uint64_t index) {
  const auto signed_value = [](int64_t value) { return Integer{value < 0, static_cast<uint64_t>(value)}; };
  switch (type) {
    case GgufType::kU8:
      return Integer{false, Load<uint8_t>(bytes, index)};
    case GgufType::kI8:
      return signed_value(Load<int8_t>(bytes, index));
    case GgufType::kU16:
      return Integer{false, Load<uint16_t>(bytes, index)};
    case GgufType::kI16:
      return signed_value(Load<int16_t>(bytes, index));
    case GgufType::kU32:
      return Integer{false, Load<uint32_t>(bytes, index)};
    case GgufType::kI32:
      return signed_value(Load<int32_t>(bytes, index));
    case GgufType::kU64:
      return Integer{false, Load<uint64_t>(bytes, index)};
    case GgufType::kI64:
      return signed_value(Load<int64_t>(bytes, index));
    case GgufType::kF32:
    case GgufType::kBool:
    case GgufType::kString:
    case GgufType::kArray:
    case GgufType::kF64:
      return std::nullopt;
  }
  return std::nullopt;
}

std::string ToString(const Integer& value) {
  return value.negative ? fmt::format("{}", static_cast<int64_t>(value.bits)) : fmt::format("{}", value.bits);
}

template <typename T>
bool Fits(const Integer& value) {
  if (!value.negative) return value.bits <= static_cast<uint64_t>(std::numeric_limits<T>::max());
  return std::is_signed_v<T> && static_cast<int64_t>(value.bits) >= static_cast<int64_t>(std::numeric_limits<T>::min());
}

template <typename T>
absl::StatusOr<T> ToInteger(const std::string& path, std::string_view key, GgufType type,
                            std::span<const std::byte> bytes, uint64_t index) {
  const std::optional<Integer> value = LoadInteger(type, bytes, index);
  CONCLAVE_CHECK(value.has_value());  // callers check the type
  if (!Fits<T>(*value)) {
    return ModelFileInvalid(path, "key \"{}\" holds {}, {} to {} allowed", key, ToString(*value),
                            std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
  }
  return static_cast<T>(value->bits);
}

bool IsInteger(GgufType type) {
  return type != GgufType::kF32 && type != GgufType::kF64 && type != GgufType::kBool && FixedBytes(type) != 0;
}

template <typename T>
absl::StatusOr<std::vector<T>> ToIntegers(const std::string& path, std::string_view key, const GgufValue& value) {
  std::vector<T> out;
  out.reserve(value.element_count);
  for (uint64_t i = 0; i < value.element_count; ++i) {
    ASSIGN_OR_RETURN(const T element, ToInteger<T>(path, key, value.element_type, value.bytes, i));
    out.push_back(element);
  }
  return out;
}

}  // namespace

std::string_view Name(GgufType type) {
  switch (type) {
    case GgufType::kU8:
      return "u8";
    case GgufType::kI8:
      return "i8";
    case GgufType::kU16:
      return "u16";
    case GgufType::kI16:
      return "i16";
    case GgufType::kU32:
      return "u32";
    case GgufType::kI32:
      return "i32";
    case GgufType::kF32:
      return "f32";
    case GgufType::kBool:
      return "bool";
    case GgufType::kString:
      return "string";
    case GgufType::kArray:
      return "array";
    case GgufType::kU64:
      return "u64";
    case GgufType::kI64:
      return "i64";
    case GgufType::kF64:
      return "f64";
  }
  return "unknown";
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapped, MappedFile::Open(path));
  std::unique_ptr<GgufFile> file(new GgufFile());
  file->path_ = path;
  file->bytes_ = mapped->bytes();
  file->file_ = std::move(mapped);
  const absl::Status status = GgufParser(file.get()).Parse();
  RETURN_IF_ERROR(file->CheckIntact());  // before the parser's opinion of bytes that vanished
  RETURN_IF_ERROR(status);
  return file;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Parse(std::string name, std::span<const std::byte> bytes) {
  std::unique_ptr<GgufFile> file(new GgufFile());
  file->path_ = std::move(name);
  file->bytes_ = bytes;
  RETURN_IF_ERROR(GgufParser(file.get()).Parse());
  return file;
}

std::string GgufFile::Revision() const {
  Sha256 hash;
  hash.Update(AsText(header_bytes()));
  hash.Update(fmt::format("{}", bytes_.size()));
  return hash.HexDigest();
}

absl::Status GgufFile::CheckIntact() const { return file_ == nullptr ? absl::OkStatus() : file_->CheckIntact(); }

void GgufFile::DropResident(std::span<const std::byte> bytes) const {
  if (file_ == nullptr || bytes.data() < bytes_.data() || bytes.data() >= bytes_.data() + bytes_.size()) return;
  file_->DropResident(bytes);
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

absl::StatusOr<const GgufValue*> GgufFile::Get(std::string_view key, std::string_view wanted) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return ModelFileInvalid(path_, "key \"{}\" ({}) is missing", key, wanted);
  return value;
}

absl::Status GgufFile::WrongType(std::string_view key, const GgufValue& value, std::string_view wanted) const {
  const std::string found = value.type == GgufType::kArray ? fmt::format("array of {}", Name(value.element_type))
                                                           : std::string(Name(value.type));
  return ModelFileInvalid(path_, "key \"{}\" is {}, {} expected", key, found, wanted);
}

absl::StatusOr<std::string_view> GgufFile::GetString(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "string"));
  if (value->type != GgufType::kString) return WrongType(key, *value, "string");
  return AsText(value->bytes);
}

absl::StatusOr<uint32_t> GgufFile::GetU32(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "u32"));
  if (!IsInteger(value->type)) return WrongType(key, *value, "u32");
  return ToInteger<uint32_t>(path_, key, value->type, value->bytes, 0);
}

absl::StatusOr<uint64_t> GgufFile::GetU64(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "u64"));
  if (!IsInteger(value->type)) return WrongType(key, *value, "u64");
  return ToInteger<uint64_t>(path_, key, value->type, value->bytes, 0);
}

absl::StatusOr<float> GgufFile::GetF32(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "f32"));
  float number = 0;
  if (value->type == GgufType::kF32) {
    number = Load<float>(value->bytes, 0);
  } else if (value->type == GgufType::kF64) {
    number = static_cast<float>(Load<double>(value->bytes, 0));
  } else {
    return WrongType(key, *value, "f32");
  }
  if (!std::isfinite(number)) return ModelFileInvalid(path_, "key \"{}\" is {}, a finite number expected", key, number);
  return number;
}

absl::StatusOr<bool> GgufFile::GetBool(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "bool"));
  if (value->type != GgufType::kBool) return WrongType(key, *value, "bool");
  return Load<uint8_t>(value->bytes, 0) != 0;
}

absl::StatusOr<std::span<const std::string_view>> GgufFile::GetStrings(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "array of string"));
  if (value->type != GgufType::kArray || value->element_type != GgufType::kString) {
    return WrongType(key, *value, "array of string");
  }
  return std::span(value->strings);
}

absl::StatusOr<std::vector<uint32_t>> GgufFile::GetU32s(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "array of u32"));
  if (value->type != GgufType::kArray || !IsInteger(value->element_type)) return WrongType(key, *value, "array of u32");
  return ToIntegers<uint32_t>(path_, key, *value);
}

absl::StatusOr<std::vector<int32_t>> GgufFile::GetI32s(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "array of i32"));
  if (value->type != GgufType::kArray || !IsInteger(value->element_type)) return WrongType(key, *value, "array of i32");
  return ToIntegers<int32_t>(path_, key, *value);
}

absl::StatusOr<std::vector<float>> GgufFile::GetF32s(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Get(key, "array of f32"));
  if (value->type != GgufType::kArray || value->element_type != GgufType::kF32) {
    return WrongType(key, *value, "array of f32");
  }
  std::vector<float> out(value->element_count);
  for (uint64_t i = 0; i < value->element_count; ++i) {
    out[i] = Load<float>(value->bytes, i);
    if (!std::isfinite(out[i])) {
      return ModelFileInvalid(path_, "key \"{}\" holds {} at index {}, finite numbers expected", key, out[i], i);
    }
  }
  return out;
}

absl::StatusOr<uint32_t> GgufFile::GetU32Or(std::string_view key, uint32_t fallback) const {
  return Has(key) ? GetU32(key) : fallback;
}
absl::StatusOr<float> GgufFile::GetF32Or(std::string_view key, float fallback) const {
  return Has(key) ? GetF32(key) : fallback;
}
absl::StatusOr<bool> GgufFile::GetBoolOr(std::string_view key, bool fallback) const {
  return Has(key) ? GetBool(key) : fallback;
}
absl::StatusOr<std::string_view> GgufFile::GetStringOr(std::string_view key, std::string_view fallback) const {
  return Has(key) ? GetString(key) : fallback;
}

const CheckpointTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace conclave::engine
