// SPDX-License-Identifier: Apache-2.0
#include "engine/format/gguf_parse.h"

#include <bit>
#include <limits>
#include <optional>

namespace conclave::engine {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
// The least a key-value pair (empty key, one-byte value) and a tensor entry (one dimension) take in the file: a count
// that could not fit is refused before anything is reserved for it.
constexpr uint64_t kValueBytesMin = 8 + 4 + 1;
constexpr uint64_t kTensorEntryBytesMin = 8 + 4 + 8 + 4 + 8;

// ggml's numbering of tensor types. Removed and unsupported numbers keep their names for the error.
struct TensorType {
  std::string_view name;
  std::optional<DType> dtype;
};
TensorType TensorTypeOf(uint32_t number) {
  switch (number) {
    case 0:
      return {"F32", DType::kF32};
    case 1:
      return {"F16", DType::kF16};
    case 2:
      return {"Q4_0", DType::kQ4_0};
    case 3:
      return {"Q4_1", DType::kQ4_1};
    case 6:
      return {"Q5_0", DType::kQ5_0};
    case 7:
      return {"Q5_1", DType::kQ5_1};
    case 8:
      return {"Q8_0", DType::kQ8_0};
    case 9:
      return {"Q8_1", std::nullopt};
    case 10:
      return {"Q2_K", DType::kQ2_K};
    case 11:
      return {"Q3_K", DType::kQ3_K};
    case 12:
      return {"Q4_K", DType::kQ4_K};
    case 13:
      return {"Q5_K", DType::kQ5_K};
    case 14:
      return {"Q6_K", DType::kQ6_K};
    case 15:
      return {"Q8_K", std::nullopt};
    case 16:
      return {"IQ2_XXS", std::nullopt};
    case 17:
      return {"IQ2_XS", std::nullopt};
    case 18:
      return {"IQ3_XXS", std::nullopt};
    case 19:
      return {"IQ1_S", std::nullopt};
    case 20:
      return {"IQ4_NL", DType::kIQ4_NL};
    case 21:
      return {"IQ3_S", std::nullopt};
    case 22:
      return {"IQ2_S", std::nullopt};
    case 23:
      return {"IQ4_XS", DType::kIQ4_XS};
    case 24:
      return {"I8", DType::kI8};
    case 25:
      return {"I16", DType::kI16};
    case 26:
      return {"I32", DType::kI32};
    case 27:
      return {"I64", DType::kI64};
    case 28:
      return {"F64", DType::kF64};
    case 29:
      return {"IQ1_M", std::nullopt};
    case 30:
      return {"BF16", DType::kBF16};
    case 34:
      return {"TQ1_0", std::nullopt};
    case 35:
      return {"TQ2_0", std::nullopt};
    case 39:
      return {"MXFP4", DType::kMXFP4};
    default:
      return {"unknown", std::nullopt};
  }
}

}  // namespace

std::string Printable(std::string_view text) {
  constexpr size_t kShownMax = 64;
  std::string out(text.substr(0, kShownMax));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  if (text.size() > kShownMax) out += "..";
  return out;
}

uint32_t FixedBytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

absl::Status GgufParser::Truncated(std::string_view what, uint64_t needed) const {
  return ModelFileInvalid(file_->path_, "{} needs {} bytes at offset {}, the file has {} bytes: truncated or corrupt",
                          what, needed, reader_.offset(), reader_.size());
}

template <typename T>
absl::StatusOr<T> GgufParser::Number(std::string_view what) {
  const std::optional<T> value = reader_.Read<T>();
  if (!value.has_value()) return Truncated(what, sizeof(T));
  return *value;
}

absl::StatusOr<std::string_view> GgufParser::ParseString(std::string_view what, uint64_t bytes_max) {
  ASSIGN_OR_RETURN(const uint64_t length, Number<uint64_t>(what));
  if (length > bytes_max) {
    return ModelFileInvalid(file_->path_, "{} at offset {} is {} bytes long, at most {} allowed", what,
                            reader_.offset(), length, bytes_max);
  }
  const auto bytes = reader_.ReadBytes(length);
  if (!bytes.has_value()) return Truncated(what, length);
  return AsText(*bytes);
}

absl::Status GgufParser::Parse() {
  RETURN_IF_ERROR(ParseHeader());
  RETURN_IF_ERROR(ParseValues());
  RETURN_IF_ERROR(ParseAlignment());
  RETURN_IF_ERROR(ParseTensorTable());
  return PlaceTensors();
}

absl::Status GgufParser::ParseHeader() {
  ASSIGN_OR_RETURN(const uint32_t magic, Number<uint32_t>("the magic number"));
  if (magic != kMagic) {
    return ModelFileInvalid(file_->path_, "is not a GGUF file: it starts with 0x{:08x}, not \"GGUF\"", magic);
  }
  ASSIGN_OR_RETURN(file_->version_, Number<uint32_t>("the version"));
  const uint32_t version = file_->version_;
  if (version != 2 && version != 3) {
    const char* hint = (version & 0xffff) == 0 && version != 0 ? " (a big-endian file?)" : "";
    return ModelFileInvalid(file_->path_, "GGUF version {}{} is not supported, versions 2 and 3 are", version, hint);
  }
  ASSIGN_OR_RETURN(num_tensors_, Number<uint64_t>("the tensor count"));
  ASSIGN_OR_RETURN(num_values_, Number<uint64_t>("the key count"));
  if (num_tensors_ > kGgufTensorsMax || num_tensors_ > reader_.remaining() / kTensorEntryBytesMin) {
    return ModelFileInvalid(file_->path_, "the header declares {} tensors, at most {} allowed and {} could fit",
                            num_tensors_, kGgufTensorsMax, reader_.remaining() / kTensorEntryBytesMin);
  }
  if (num_values_ > kGgufKeysMax || num_values_ > reader_.remaining() / kValueBytesMin) {
    return ModelFileInvalid(file_->path_, "the header declares {} metadata keys, at most {} allowed and {} could fit",
                            num_values_, kGgufKeysMax, reader_.remaining() / kValueBytesMin);
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ParseValues() {
  for (uint64_t i = 0; i < num_values_; ++i) {
    ASSIGN_OR_RETURN(const std::string_view view, ParseString(fmt::format("metadata key {}", i), kGgufKeyBytesMax));
    const std::string key(view);
    if (key.empty()) return ModelFileInvalid(file_->path_, "metadata key {} is empty", i);
    ASSIGN_OR_RETURN(GgufValue value, ParseValue(key));
    if (!file_->values_.emplace(key, std::move(value)).second) {
      return ModelFileInvalid(file_->path_, "key \"{}\" appears twice", Printable(key));
    }
    file_->key_order_.push_back(view);
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufValue> GgufParser::ParseValue(const std::string& key) {
  const std::string what = fmt::format("the value of key \"{}\"", Printable(key));
  ASSIGN_OR_RETURN(const uint32_t type, Number<uint32_t>(what));
  GgufValue value;
  value.type = static_cast<GgufType>(type);
  if (value.type == GgufType::kString) {
    ASSIGN_OR_RETURN(const std::string_view text, ParseString(what, kGgufStringBytesMax));
    value.bytes = std::as_bytes(std::span(text));
    return value;
  }
  if (value.type == GgufType::kArray) {
    RETURN_IF_ERROR(ParseArray(key, &value));
    return value;
  }
  const uint32_t size = FixedBytes(value.type);
  if (size == 0) {
    return ModelFileInvalid(file_->path_, "key \"{}\" has the unknown value type {}", Printable(key), type);
  }
  const auto bytes = reader_.ReadBytes(size);
  if (!bytes.has_value()) return Truncated(what, size);
  value.bytes = *bytes;
  if (value.type == GgufType::kBool) RETURN_IF_ERROR(CheckBools(key, value.bytes));
  return value;
}

absl::Status GgufParser::ParseArray(const std::string& key, GgufValue* value) {
  const std::string what = fmt::format("the array of key \"{}\"", Printable(key));
  ASSIGN_OR_RETURN(const uint32_t element_type, Number<uint32_t>(what));
  ASSIGN_OR_RETURN(const uint64_t count, Number<uint64_t>(what));
  value->element_type = static_cast<GgufType>(element_type);
  value->element_count = count;
  if (count > kGgufArrayElementsMax) {
    return ModelFileInvalid(file_->path_, "{} has {} elements, at most {} allowed", what, count, kGgufArrayElementsMax);
  }
  if (value->element_type == GgufType::kString) {
    // Each string takes at least its length, so a count that passes here cannot reserve more than the file's size.
    if (count > reader_.remaining() / sizeof(uint64_t)) return Truncated(what, count * sizeof(uint64_t));
    value->strings.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(const std::string_view text, ParseString(what, kGgufStringBytesMax));
      value->strings.push_back(text);
    }
    return absl::OkStatus();
  }
  const uint32_t size = FixedBytes(value->element_type);
  if (size == 0) {
    return ModelFileInvalid(file_->path_, "{} has elements of the unsupported type {}{}", what, element_type,
                            value->element_type == GgufType::kArray ? " (array of arrays)" : "");
  }
  const auto bytes = reader_.ReadBytes(count * size);  // count <= 2^26, size <= 8: cannot wrap
  if (!bytes.has_value()) return Truncated(what, count * size);
  value->bytes = *bytes;
  return value->element_type == GgufType::kBool ? CheckBools(key, value->bytes) : absl::OkStatus();
}

absl::Status GgufParser::CheckBools(const std::string& key, std::span<const std::byte> bytes) const {
  for (const std::byte b : bytes) {
    if (std::to_integer<int>(b) > 1) {
      return ModelFileInvalid(file_->path_, "key \"{}\" holds the bool {}, 0 or 1 expected", Printable(key),
                              std::to_integer<int>(b));
    }
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ParseAlignment() {
  constexpr std::string_view kKey = "general.alignment";
  const GgufValue* value = file_->Find(kKey);
  if (value == nullptr) return absl::OkStatus();
  if (value->type != GgufType::kU32) {
    return ModelFileInvalid(file_->path_, "key \"{}\" is {}, u32 expected", kKey, Name(value->type));
  }
  ASSIGN_OR_RETURN(const uint32_t alignment, file_->GetU32(kKey));
  if (!std::has_single_bit(alignment) || alignment > kGgufAlignmentMax) {
    return ModelFileInvalid(file_->path_, "key \"{}\" is {}, a power of two up to {} expected", kKey, alignment,
                            kGgufAlignmentMax);
  }
  alignment_ = alignment;
  return absl::OkStatus();
}

absl::Status GgufParser::ParseTensorTable() {
  declared_.reserve(num_tensors_);
  for (uint64_t i = 0; i < num_tensors_; ++i) {
    ASSIGN_OR_RETURN(Declared declared, ParseTensor(i));
    const std::string name(declared.tensor.name);
    if (!file_->tensor_index_.emplace(name, i).second) {
      return ModelFileInvalid(file_->path_, "tensor \"{}\" appears twice", Printable(name));
    }
    declared_.push_back(declared);
  }
  file_->header_size_ = reader_.offset();
  return absl::OkStatus();
}

absl::StatusOr<GgufParser::Declared> GgufParser::ParseTensor(uint64_t index) {
  Declared declared = {};
  ASSIGN_OR_RETURN(declared.tensor.name,
                   ParseString(fmt::format("the name of tensor {}", index), kGgufTensorNameBytesMax));
  if (declared.tensor.name.empty()) return ModelFileInvalid(file_->path_, "tensor {} has no name", index);
  const std::string name = Printable(declared.tensor.name);
  RETURN_IF_ERROR(ParseShape(&declared, name));
  const std::string what = fmt::format("the entry of tensor \"{}\"", name);
  ASSIGN_OR_RETURN(const uint32_t type_number, Number<uint32_t>(what));
  const TensorType type = TensorTypeOf(type_number);
  if (!type.dtype.has_value()) {
    return ModelFileInvalid(file_->path_, "tensor \"{}\" has type {} ({}), which is not supported", name, type_number,
                            type.name);
  }
  declared.tensor.dtype = *type.dtype;
  const DTypeTraits& traits = Traits(*type.dtype);
  const Shape& shape = declared.tensor.shape;
  if (shape.back() % traits.block_elements != 0) {
    return ModelFileInvalid(file_->path_, "tensor \"{}\" has rows of {} elements, not a multiple of {}'s block of {}",
                            name, shape.back(), traits.name, traits.block_elements);
  }
  // elements / block_elements <= 2^63 / 1; the product with block_bytes may exceed 64 bits.
  const auto blocks = static_cast<uint64_t>(shape.elements() / traits.block_elements);
  if (__builtin_mul_overflow(blocks, static_cast<uint64_t>(traits.block_bytes), &declared.size)) {
    return ModelFileInvalid(file_->path_, "tensor \"{}\" of shape {} has more bytes than 64 bits count", name,
                            shape.ToString());
  }
  ASSIGN_OR_RETURN(declared.offset, Number<uint64_t>(what));
  return declared;
}

absl::Status GgufParser::ParseShape(Declared* declared, std::string_view name) {
  const std::string what = fmt::format("the shape of tensor \"{}\"", name);
  ASSIGN_OR_RETURN(const uint32_t rank, Number<uint32_t>(what));
  if (rank < 1 || rank > Shape::kRankMax) {
    return ModelFileInvalid(file_->path_, "tensor \"{}\" has {} dimensions, 1 to {} allowed", name, rank,
                            Shape::kRankMax);
  }
  std::array<int64_t, Shape::kRankMax> dims = {};
  int64_t elements = 1;
  for (uint32_t d = rank; d-- > 0;) {  // fastest first in the file
    ASSIGN_OR_RETURN(const uint64_t dim, Number<uint64_t>(what));
    if (dim < 1 || dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return ModelFileInvalid(file_->path_, "tensor \"{}\" has a dimension of {}", name, dim);
    }
    dims[d] = static_cast<int64_t>(dim);
    if (__builtin_mul_overflow(elements, dims[d], &elements)) {
      return ModelFileInvalid(file_->path_, "tensor \"{}\" has more elements than 64 bits count (dimension {})", name,
                              dim);
    }
  }
  declared->tensor.shape = Shape(std::span<const int64_t>(dims.data(), rank));
  return absl::OkStatus();
}

// The data section starts at the next multiple of the alignment; tensors follow one another in the table's order, each
// padded to the alignment. Requiring exactly that rules out overlap and holes.
absl::Status GgufParser::PlaceTensors() {
  const uint64_t data_begin = (file_->header_size_ + alignment_ - 1) / alignment_ * alignment_;  // <= size + 2^16
  uint64_t expected = 0;
  for (const Declared& declared : declared_) {
    const std::string name = Printable(declared.tensor.name);
    if (declared.offset != expected) {
      return ModelFileInvalid(file_->path_, "tensor \"{}\" starts at data offset {}, {} expected (alignment {})", name,
                              declared.offset, expected, alignment_);
    }
    const uint64_t available = reader_.size() > data_begin ? reader_.size() - data_begin : 0;
    if (declared.offset > available || declared.size > available - declared.offset) {
      return ModelFileInvalid(
          file_->path_, "tensor \"{}\" needs {} bytes at data offset {}, the data section has {}: truncated or corrupt",
          name, declared.size, declared.offset, available);
    }
    CheckpointTensor tensor = declared.tensor;
    tensor.bytes = file_->bytes_.subspan(data_begin + declared.offset, declared.size);
    file_->tensors_.push_back(tensor);
    const uint64_t end = declared.offset + declared.size;  // <= available
    expected = (end + alignment_ - 1) / alignment_ * alignment_;
  }
  return absl::OkStatus();
}

}  // namespace conclave::engine
