// SPDX-License-Identifier: Apache-2.0
#include "engine/format/json.h"

#include "absl/container/flat_hash_set.h"
#include "engine/format/checkpoint.h"

namespace conclave::engine {
namespace {

using simdjson::dom::element_type;

std::string_view NameOf(element_type type) {
  switch (type) {
    case element_type::ARRAY:
      return "array";
    case element_type::OBJECT:
      return "object";
    case element_type::INT64:
    case element_type::UINT64:
      return "integer";
    case element_type::DOUBLE:
      return "number";
    case element_type::STRING:
      return "string";
    case element_type::BOOL:
      return "boolean";
    case element_type::NULL_VALUE:
      return "null";
  }
  return "unknown";
}

}  // namespace

std::string_view JsonValue::KindName() const { return NameOf(element_.type()); }

absl::Status JsonValue::Invalid(std::string_view message) const {
  if (where_.empty()) return ModelFileInvalid(*file_, "{}", message);
  return ModelFileInvalid(*file_, "\"{}\" {}", where_, message);
}

absl::Status JsonValue::Wrong(std::string_view expected) const {
  return Invalid(fmt::format("is of type {}, {} expected", KindName(), expected));
}

absl::StatusOr<std::string_view> JsonValue::String() const {
  std::string_view value;
  if (element_.get(value) != simdjson::SUCCESS) return Wrong("string");
  return value;
}

absl::StatusOr<bool> JsonValue::Bool() const {
  bool value = false;
  if (element_.get(value) != simdjson::SUCCESS) return Wrong("boolean");
  return value;
}

absl::StatusOr<int64_t> JsonValue::Integer(int64_t min, int64_t max) const {
  if (element_.type() == element_type::UINT64) {
    return Invalid(fmt::format("is {}, {} to {} allowed", element_.get_uint64().value_unsafe(), min, max));
  }
  int64_t value = 0;
  if (element_.type() != element_type::INT64 || element_.get(value) != simdjson::SUCCESS) return Wrong("integer");
  if (value < min || value > max) return Invalid(fmt::format("is {}, {} to {} allowed", value, min, max));
  return value;
}

absl::StatusOr<double> JsonValue::Number() const {
  double value = 0;
  if (!element_.is_number() || element_.get(value) != simdjson::SUCCESS) return Wrong("number");
  return value;
}

absl::StatusOr<std::vector<JsonValue>> JsonValue::Array() const {
  simdjson::dom::array array;
  if (element_.get(array) != simdjson::SUCCESS) return Wrong("array");
  std::vector<JsonValue> values;
  for (const simdjson::dom::element element : array) {
    values.emplace_back(file_, fmt::format("{}[{}]", where_, values.size()), element);
  }
  return values;
}

absl::StatusOr<JsonObject> JsonValue::Object() const {
  simdjson::dom::object object;
  if (element_.get(object) != simdjson::SUCCESS) return Wrong("object");
  std::vector<JsonObject::Member> members;
  absl::flat_hash_set<std::string> seen;
  for (const auto& [key, value] : object) {
    std::string where = where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key);
    if (!seen.emplace(key).second) return Invalid(fmt::format("has the key \"{}\" twice", key));
    members.emplace_back(key, JsonValue(file_, std::move(where), value));
  }
  return JsonObject(*this, std::move(members));
}

const JsonValue* JsonObject::Find(std::string_view key) const {
  for (const auto& [name, value] : members_) {
    if (name == key) return value.IsNull() ? nullptr : &value;
  }
  return nullptr;
}

absl::StatusOr<JsonValue> JsonObject::Get(std::string_view key) const {
  const JsonValue* value = Find(key);
  if (value == nullptr) return self_.Invalid(fmt::format("key \"{}\" is missing", key));
  return *value;
}

absl::StatusOr<bool> JsonObject::BoolOr(std::string_view key, bool fallback) const {
  const JsonValue* value = Find(key);
  return value == nullptr ? absl::StatusOr<bool>(fallback) : value->Bool();
}

absl::StatusOr<double> JsonObject::NumberOr(std::string_view key, double fallback) const {
  const JsonValue* value = Find(key);
  return value == nullptr ? absl::StatusOr<double>(fallback) : value->Number();
}

absl::StatusOr<int64_t> JsonObject::IntegerOr(std::string_view key, int64_t min, int64_t max, int64_t fallback) const {
  const JsonValue* value = Find(key);
  return value == nullptr ? absl::StatusOr<int64_t>(fallback) : value->Integer(min, max);
}

absl::StatusOr<std::string_view> JsonObject::StringOr(std::string_view key, std::string_view fallback) const {
  const JsonValue* value = Find(key);
  return value == nullptr ? absl::StatusOr<std::string_view>(fallback) : value->String();
}

absl::StatusOr<std::unique_ptr<JsonDocument>> JsonDocument::Parse(std::string file, std::string_view text,
                                                                  size_t bytes_max) {
  if (text.size() > bytes_max) {
    return ModelFileInvalid(file, "the JSON text has {} bytes, at most {} allowed", text.size(), bytes_max);
  }
  std::unique_ptr<JsonDocument> document(new JsonDocument());
  document->file_ = std::move(file);
  simdjson::error_code error = document->parser_.allocate(std::max<size_t>(text.size(), 64), kJsonDepthMax);
  if (error == simdjson::SUCCESS) {
    // Copies the text: it may end at the end of a page.
    error = document->parser_.parse(text.data(), text.size(), /*realloc_if_needed=*/true).get(document->root_);
  }
  if (error != simdjson::SUCCESS) {
    return ModelFileInvalid(document->file_, "is not JSON as expected: {}", simdjson::error_message(error));
  }
  return document;
}

}  // namespace conclave::engine
