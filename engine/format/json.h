// SPDX-License-Identifier: Apache-2.0
// The JSON of checkpoints (config.json, tokenizer.json, safetensors headers), read strictly: typed access whose errors
// name file, place, what was found and what was expected. The text is untrusted.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::engine {

inline constexpr size_t kJsonBytesMax = 64 << 20;  // the largest tokenizer.json known has 33 MB
inline constexpr size_t kJsonDepthMax = 64;

class JsonObject;

// One value and where it stands: "rope_scaling.factor", "merges[3]". Copies are cheap; they point into the document.
//
// Errors are FAILED_PRECONDITION "MODEL_FILE_INVALID <file>: ..".
class JsonValue {
 public:
  JsonValue(const std::string* file, std::string where, simdjson::dom::element element)
      : file_(file), where_(std::move(where)), element_(element) {}

  const std::string& where() const { return where_; }
  const std::string& file() const { return *file_; }
  std::string_view KindName() const;  // "string", "object", ..
  bool IsNull() const { return element_.is_null(); }
  bool IsString() const { return element_.is_string(); }
  bool IsBool() const { return element_.is_bool(); }
  bool IsArray() const { return element_.is_array(); }
  bool IsObject() const { return element_.is_object(); }

  absl::StatusOr<std::string_view> String() const;
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<int64_t> Integer(int64_t min, int64_t max) const;
  absl::StatusOr<double> Number() const;  // integers too
  absl::StatusOr<std::vector<JsonValue>> Array() const;
  absl::StatusOr<JsonObject> Object() const;  // a key that stands twice is an error

  // For an opinion about this value: "<file>: "<where>" <message>".
  absl::Status Invalid(std::string_view message) const;

 private:
  absl::Status Wrong(std::string_view expected) const;

  const std::string* file_;
  std::string where_;
  simdjson::dom::element element_;
};

// Members in the document's order.
class JsonObject {
 public:
  using Member = std::pair<std::string_view, JsonValue>;
  JsonObject(const JsonValue& self, std::vector<Member> members) : self_(self), members_(std::move(members)) {}

  const JsonValue& self() const { return self_; }
  const std::vector<Member>& members() const { return members_; }

  // nullptr where the key is absent or its value null, which Hugging Face writes for "not given".
  const JsonValue* Find(std::string_view key) const;
  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  absl::StatusOr<JsonValue> Get(std::string_view key) const;  // an error where Find gives nullptr

  // A missing or null value is the fallback, one of another type an error.
  absl::StatusOr<bool> BoolOr(std::string_view key, bool fallback) const;
  absl::StatusOr<double> NumberOr(std::string_view key, double fallback) const;
  absl::StatusOr<int64_t> IntegerOr(std::string_view key, int64_t min, int64_t max, int64_t fallback) const;
  absl::StatusOr<std::string_view> StringOr(std::string_view key, std::string_view fallback) const;

 private:
  JsonValue self_;
  std::vector<Member> members_;
};

// A parsed text. Immutable, so thread-safe.
class JsonDocument {
 public:
  // `file` stands for the text in errors. An empty, oversized or malformed text, or one nested deeper than
  // kJsonDepthMax, is MODEL_FILE_INVALID.
  static absl::StatusOr<std::unique_ptr<JsonDocument>> Parse(std::string file, std::string_view text,
                                                             size_t bytes_max = kJsonBytesMax);
  JsonValue root() const { return {&file_, "", root_}; }

 private:
  JsonDocument() = default;

  std::string file_;
  simdjson::dom::parser parser_;
  simdjson::dom::element root_;
};

}  // namespace conclave::engine
