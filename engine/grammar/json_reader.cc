// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/json_reader.h"

#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "common/status.h"

namespace conclave::engine::grammar {
namespace {

using Json = nlohmann::ordered_json;

// Builds the value, and stops at the first thing that is wrong.
class Reader final : public nlohmann::json_sax<Json> {
 public:
  absl::Status status;
  Json root;

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return false; }  // JSON has none
  bool start_object(size_t /*size*/) override { return Open(Json::object()); }
  bool start_array(size_t /*size*/) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& value) override {
    if (!keys_.back().insert(value).second) {
      status = InvalidArgument("the key \"{}\" stands twice in one object", value);
      return false;
    }
    key_ = std::move(value);
    return true;
  }
  bool parse_error(size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override {
    const std::string_view what = error.what();
    const size_t detail = what.rfind(": ");
    status = InvalidArgument("at byte {}: this is not JSON: {}", position > 0 ? position - 1 : 0,
                             detail == what.npos ? what : what.substr(detail + 2));
    return false;
  }

 private:
  template <typename T>
  bool Add(T value) {
    Place(Json(std::move(value)));
    return true;
  }
  Json* Place(Json value) {
    if (open_.empty()) {
      root = std::move(value);
      return &root;
    }
    Json& parent = *open_.back();
    if (parent.is_object()) {
      auto& members = parent.get_ref<Json::object_t&>();
      members.emplace_back(std::move(key_), std::move(value));  // which was looked for among its keys
      return &members.back().second;
    }
    parent.push_back(std::move(value));
    return &parent.back();
  }
  bool Open(Json value) {
    if (open_.size() >= kJsonNestingMax) {
      status = InvalidArgument("the JSON text nests deeper than {}", kJsonNestingMax);
      return false;
    }
    open_.push_back(Place(std::move(value)));
    keys_.emplace_back();
    return true;
  }
  bool Close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  std::vector<Json*> open_;  // a value moves only while it is closed: its parent grows behind it
  std::vector<absl::flat_hash_set<std::string>> keys_;  // of each
  std::string key_;
};

}  // namespace

absl::StatusOr<nlohmann::ordered_json> ReadStrictJson(std::string_view text) {
  Reader reader;
  if (!Json::sax_parse(text.begin(), text.end(), &reader)) {
    return reader.status.ok() ? InvalidArgument("at byte 0: this is not JSON") : reader.status;
  }
  return std::move(reader.root);
}

}  // namespace conclave::engine::grammar
