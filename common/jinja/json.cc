// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/json.h"

#include <nlohmann/json.hpp>

#include "common/jinja/error.h"

namespace conclave::jinja {
namespace {

absl::StatusOr<Value> Convert(const nlohmann::ordered_json& json, Author author, int depth) {
  if (depth > kMaxDepth) return InvalidArgument("TEMPLATE_LIMIT: JSON nested more than {} deep", kMaxDepth);
  const auto text = [&](const std::string& bytes) {
    return author == Author::kUser ? Value::UserText(bytes) : Value::String(bytes);
  };
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::null:
      return Value::None();
    case nlohmann::ordered_json::value_t::boolean:
      return Value::Bool(json.get<bool>());
    case nlohmann::ordered_json::value_t::number_integer:
      return Value::Int(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_unsigned: {
      const auto number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(INT64_MAX)) {
        return InvalidArgument("TEMPLATE_LIMIT: the integer {} is outside 64 bits", number);
      }
      return Value::Int(static_cast<int64_t>(number));
    }
    case nlohmann::ordered_json::value_t::number_float:
      return Value::Float(json.get<double>());
    case nlohmann::ordered_json::value_t::string:
      return text(json.get_ref<const std::string&>());
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) {
        ASSIGN_OR_RETURN(Value value, Convert(item, author, depth + 1));
        items.push_back(std::move(value));
      }
      return Value::List(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict dict;
      Budget budget(Limits{.steps = INT64_MAX / 2});
      for (const auto& [key, item] : json.items()) {
        ASSIGN_OR_RETURN(Value value, Convert(item, author, depth + 1));
        dict.Set(text(key), std::move(value), budget);
      }
      return Value::OfDict(std::move(dict));
    }
    default:
      return InvalidArgument("JSON of type {} has no value in templates", json.type_name());
  }
}

}  // namespace

absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json, Author author) { return Convert(json, author, 1); }

absl::StatusOr<nlohmann::ordered_json> ToJson(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNone:
      return nlohmann::ordered_json(nullptr);
    case Value::Kind::kBool:
      return nlohmann::ordered_json(value.AsBool());
    case Value::Kind::kInt:
      return nlohmann::ordered_json(value.AsInt());
    case Value::Kind::kFloat:
      return nlohmann::ordered_json(value.AsDouble());
    case Value::Kind::kString:
      return nlohmann::ordered_json(value.AsString());
    case Value::Kind::kSequence: {
      auto array = nlohmann::ordered_json::array();
      for (const Value& item : value.AsSequence().items) {
        ASSIGN_OR_RETURN(nlohmann::ordered_json element, ToJson(item));
        array.push_back(std::move(element));
      }
      return array;
    }
    case Value::Kind::kDict: {
      auto object = nlohmann::ordered_json::object();
      for (const Dict::Entry& entry : value.AsDict().entries()) {
        if (!entry.key.IsString()) {
          return Raise(ErrorType::kTypeError, "a dict key of type {} has no JSON form", entry.key.TypeName());
        }
        ASSIGN_OR_RETURN(nlohmann::ordered_json element, ToJson(entry.value));
        object.push_back({entry.key.AsString(), std::move(element)});
      }
      return object;
    }
    default:
      return Raise(ErrorType::kTypeError, "Object of type {} is not JSON serializable", value.TypeName());
  }
}

}  // namespace conclave::jinja
