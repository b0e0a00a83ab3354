// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/json_schema.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/grammar/characters.h"
#include "engine/grammar/json_parts.h"
#include "engine/grammar/json_reader.h"
#include "engine/grammar/regex.h"
#include "engine/grammar/schema_types.h"

namespace conclave::engine::grammar {
namespace {

constexpr std::string_view kDate =
    "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
constexpr std::string_view kTime =
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
constexpr std::string_view kUuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

class SchemaCompiler {
 public:
  explicit SchemaCompiler(Json document) : document_(std::move(document)), parts_(&builder_) {}

  absl::StatusOr<std::shared_ptr<const Automaton>> Compile() {
    RuleOf(document_, "");
    // Schemas are compiled in the order in which they are met; a reference meets one that is known.
    for (size_t i = 0; i < open_.size() && !builder_.full(); ++i) {
      const Open open = open_[i];
      ASSIGN_OR_RETURN(const Part part, Schema(*open.schema, open.place));
      builder_.Define(open.rule, part);
    }
    return builder_.Build();
  }

 private:
  struct Open {
    const Json* schema;
    std::string place;
    int32_t rule;
  };

  int32_t RuleOf(const Json& schema, std::string place) {
    const auto [it, added] = rules_.try_emplace(&schema, -1);
    if (!added) return it->second;
    it->second = builder_.AddRule("the schema at " + (place.empty() ? std::string("the root") : place));
    open_.push_back({&schema, std::move(place), it->second});
    return it->second;
  }
  Part Value(const Json& schema, std::string place) { return builder_.Call(RuleOf(schema, std::move(place))); }
  Part AnyValue() { return builder_.Call(parts_.AnyValueRule()); }

  absl::StatusOr<Part> Schema(const Json& schema, const std::string& place) {
    if (schema.is_boolean()) return schema.get<bool>() ? AnyValue() : builder_.Characters({});
    if (!schema.is_object()) return SchemaError(place, "a schema is an object, true or false");
    ASSIGN_OR_RETURN(const uint32_t types, TypesOf(schema, place));
    RETURN_IF_ERROR(CheckKeywords(schema, types, place));
    for (const char* combiner : {"$ref", "anyOf", "oneOf", "allOf"}) {
      if (schema.contains(combiner)) return Combined(schema, combiner, place);
    }
    if (schema.contains("const") || schema.contains("enum")) return Listed(schema, types, place);
    if (types == kAnyType) return AnyValue();
    std::vector<Part> ways;
    if ((types & kNull) != 0) ways.push_back(builder_.Bytes("null"));
    if ((types & kBoolean) != 0) ways.push_back(parts_.Words(std::vector<std::string_view>{"true", "false"}));
    if ((types & kNumber) != 0) {
      ASSIGN_OR_RETURN(const Part part, Number(schema, (types & kFractional) != 0, place));
      ways.push_back(part);
    }
    if ((types & kString) != 0) {
      ASSIGN_OR_RETURN(const Part part, String(schema, place));
      ways.push_back(part);
    }
    if ((types & kArray) != 0) {
      ASSIGN_OR_RETURN(const Part part, Array(schema, place));
      ways.push_back(part);
    }
    if ((types & kObject) != 0) {
      ASSIGN_OR_RETURN(const Part part, Object(schema, place));
      ways.push_back(part);
    }
    return builder_.Either(ways);
  }

  // Nothing else that says something of values may stand beside `keyword`.
  absl::Status RefuseBeside(const Json& schema, std::string_view keyword, bool type_too, const std::string& place) {
    for (const auto& [key, value] : schema.items()) {
      if (key == keyword || OnlyDescribes(key) || (key == "type" && !type_too)) continue;
      return SchemaError(Below(place, key), "is not supported beside \"{}\"", keyword);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Part> Combined(const Json& schema, std::string_view keyword, const std::string& place) {
    RETURN_IF_ERROR(RefuseBeside(schema, keyword, true, place));
    const Json& value = schema[std::string(keyword)];
    const std::string where = Below(place, keyword);
    if (keyword == "$ref") {
      ASSIGN_OR_RETURN(const Json* target, Resolve(document_, value, where));
      return Value(*target, value.get<std::string>().substr(1));
    }
    if (!value.is_array() || value.empty()) return SchemaError(where, "a list of schemas is expected");
    if (keyword == "oneOf" && value.size() > kOneOfMax) {
      return SchemaError(where, "has {} schemas, at most {} are allowed", value.size(), kOneOfMax);
    }
    if (keyword == "allOf" && value.size() > 1) return SchemaError(where, "more than one schema is not supported");
    for (size_t i = 0; keyword == "oneOf" && i < value.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (Exclude(document_, value[j], value[i])) continue;
        return SchemaError(fmt::format("{}[{}]", where, i),
                           "a value may match entry {} too, as far as types, consts and required consts tell; write "
                           "anyOf if that is meant",
                           j);
      }
    }
    std::vector<Part> ways;
    for (size_t i = 0; i < value.size(); ++i) ways.push_back(Value(value[i], fmt::format("{}[{}]", where, i)));
    return builder_.Either(ways);
  }

  absl::StatusOr<Part> Listed(const Json& schema, uint32_t types, const std::string& place) {
    const bool single = schema.contains("const");
    const char* keyword = single ? "const" : "enum";
    RETURN_IF_ERROR(RefuseBeside(schema, keyword, false, place));
    const Json& value = schema[keyword];
    if (!single && (!value.is_array() || value.empty())) {
      return SchemaError(Below(place, keyword), "a list of values is expected");
    }
    std::vector<Part> ways;
    for (const Json& one : single ? Json::array({value}) : value) {
      if ((TypeOf(one) & types) != 0) ways.push_back(parts_.Constant(one.dump()));
    }
    if (ways.empty()) return SchemaError(Below(place, keyword), "no value is of the type that \"type\" wants");
    return builder_.Either(ways);
  }

  // ---- Scalars

  absl::StatusOr<std::optional<int64_t>> Whole(const Json& schema, const char* key, int64_t least, int64_t most,
                                               const std::string& place) {
    if (!schema.contains(key)) return std::optional<int64_t>();
    const Json& value = schema[key];
    const bool whole = value.is_number() && value.get<double>() == std::floor(value.get<double>());
    if (!whole || value.get<double>() < static_cast<double>(least) || value.get<double>() > static_cast<double>(most)) {
      return SchemaError(Below(place, key), "a whole number from {} to {} is expected, found {}", least, most,
                         value.dump());
    }
    return std::optional<int64_t>(static_cast<int64_t>(value.get<double>()));
  }

  absl::StatusOr<Part> Number(const Json& schema, bool fractional, const std::string& place) {
    IntegerRange range;
    for (const bool lower : {true, false}) {
      std::optional<int64_t>& bound = lower ? range.min : range.max;
      const auto read = [&](const char* key) { return Whole(schema, key, -kIntegerBoundMax, kIntegerBoundMax, place); };
      ASSIGN_OR_RETURN(bound, read(lower ? "minimum" : "maximum"));
      const char* key = lower ? "exclusiveMinimum" : "exclusiveMaximum";
      ASSIGN_OR_RETURN(std::optional<int64_t> exclusive, read(key));
      if (!exclusive.has_value()) continue;
      if (fractional) return SchemaError(Below(place, key), "is supported for integers only");
      *exclusive += lower ? 1 : -1;
      bound = !bound.has_value() ? exclusive : lower ? std::max(bound, exclusive) : std::min(bound, exclusive);
    }
    return fractional ? parts_.Number(range) : parts_.Integer(range);
  }

  absl::StatusOr<Part> String(const Json& schema, const std::string& place) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> min, Whole(schema, "minLength", 0, kRepeatMax, place));
    ASSIGN_OR_RETURN(const std::optional<int64_t> max, Whole(schema, "maxLength", 0, kRepeatMax, place));
    const bool pattern = schema.contains("pattern"), format = schema.contains("format");
    if (pattern || format) {
      const char* key = pattern ? "pattern" : "format";
      if (min.has_value() || max.has_value() || (pattern && format)) {
        return SchemaError(Below(place, key), "is not supported beside other keywords about strings");
      }
      if (!schema[key].is_string()) return SchemaError(Below(place, key), "a string is expected");
      return Matching(schema[key].get<std::string>(), pattern, Below(place, key));
    }
    if (!min.has_value() && !max.has_value()) return builder_.Call(parts_.StringRule());
    if (max.has_value() && *max < min.value_or(0)) return SchemaError(Below(place, "maxLength"), "is below minLength");
    return parts_.String(static_cast<int32_t>(min.value_or(0)), static_cast<int32_t>(max.value_or(-1)));
  }

  absl::StatusOr<Part> Matching(const std::string& text, bool pattern, const std::string& place) {
    std::string source = text;
    if (!pattern) {
      if (text == "date") {
        source = kDate;
      } else if (text == "time") {
        source = kTime;
      } else if (text == "date-time") {
        source = fmt::format("{}T{}", kDate, kTime);
      } else if (text == "uuid") {
        source = kUuid;
      } else {
        return SchemaError(place, "\"{}\" is not known; known: date, time, date-time, uuid", text);
      }
    }
    const auto characters = [this](const CodePointSet& set) { return parts_.Character(set); };
    const absl::StatusOr<Part> part = ParseRegex(source, /*search=*/pattern, characters, &builder_);
    if (!part.ok()) return SchemaError(place, "{}", Message(part.status()));
    return parts_.Quoted(*part);
  }

  // ---- Arrays and objects

  absl::StatusOr<Part> Array(const Json& schema, const std::string& place) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> least, Whole(schema, "minItems", 0, kRepeatMax, place));
    ASSIGN_OR_RETURN(const std::optional<int64_t> most, Whole(schema, "maxItems", 0, kRepeatMax, place));
    const int64_t min = least.value_or(0);
    if (most.has_value() && *most < min) return SchemaError(Below(place, "maxItems"), "is below minItems");
    const Json none = Json::array();
    const Json& prefix = schema.contains("prefixItems") ? schema["prefixItems"] : none;
    if (!prefix.is_array()) return SchemaError(Below(place, "prefixItems"), "a list of schemas is expected");
    const bool rest = schema.contains("items") || prefix.empty();  // items behind the prefix
    const auto known = static_cast<int64_t>(prefix.size());
    const int64_t chain = std::min(std::max({known, min, most.value_or(0)}), most.value_or(kRepeatMax + known));
    const int32_t first = builder_.next_node();
    const Part open = builder_.Bytes("["), start = builder_.Then(open, parts_.Space());
    const Part before = parts_.Space(), close = builder_.Then(before, builder_.Bytes("]"));
    const auto item = [&](int64_t i) {
      if (i < known)
        return Value(prefix[static_cast<size_t>(i)], fmt::format("{}[{}]", Below(place, "prefixItems"), i));
      return schema.contains("items") ? Value(schema["items"], Below(place, "items")) : AnyValue();
    };
    const auto next = [&](int32_t from, int64_t i, bool comma, int32_t to) {
      if (comma) {
        const Part mark = builder_.Bytes(","), space = builder_.Then(mark, parts_.Space());
        builder_.AddStep(from, space.start);
        from = space.end;
      }
      const Part value = item(i);
      builder_.AddStep(from, value.start);
      builder_.AddStep(value.end, to);
    };
    int32_t at = start.end;
    int64_t count = 0;
    for (; count < chain && (count < known || rest) && !builder_.full(); ++count) {
      if (count >= min) builder_.AddStep(at, close.start);
      const int32_t to = builder_.AddNode();
      next(at, count, count > 0, to);
      at = to;
    }
    if (count >= min) builder_.AddStep(at, close.start);
    if (rest && !most.has_value()) {
      const int32_t more = builder_.AddNode();
      next(at, count, count > 0, more);
      next(more, count + 1, true, more);
      builder_.AddStep(more, close.start);
    }
    return builder_.Between(start.start, close.end, first);
  }

  struct Property {
    std::string name;
    const Json* schema;  // null: any value
    std::string place;
    bool required;
  };

  absl::StatusOr<std::vector<Property>> Properties(const Json& schema, const std::string& place) {
    std::vector<Property> properties;
    if (schema.contains("properties")) {
      if (!schema["properties"].is_object()) return SchemaError(Below(place, "properties"), "an object is expected");
      for (const auto& [name, property] : schema["properties"].items()) {
        properties.push_back({name, &property, Below(Below(place, "properties"), name), false});
      }
    }
    if (!schema.contains("required")) return properties;
    const std::string where = Below(place, "required");
    if (!schema["required"].is_array()) return SchemaError(where, "a list of names is expected");
    const Json* others = schema.contains("additionalProperties") ? &schema["additionalProperties"] : nullptr;
    for (const Json& name : schema["required"]) {
      if (!name.is_string()) return SchemaError(where, "a list of names is expected");
      const auto it = std::find_if(properties.begin(), properties.end(),
                                   [&](const Property& property) { return property.name == name; });
      if (it != properties.end()) {
        it->required = true;
      } else {
        properties.push_back({name.get<std::string>(), others, Below(place, "additionalProperties"), true});
      }
    }
    return properties;
  }

  // Two chains of nodes side by side, before each property: nothing was written yet, and something was.
  absl::StatusOr<Part> Object(const Json& schema, const std::string& place) {
    ASSIGN_OR_RETURN(const std::vector<Property> properties, Properties(schema, place));
    const Json* others = schema.contains("additionalProperties") ? &schema["additionalProperties"] : nullptr;
    const bool open_ended = others != nullptr ? *others != false : !schema.contains("properties");
    const int32_t first = builder_.next_node();
    const Part brace = builder_.Bytes("{"), start = builder_.Then(brace, parts_.Space());
    const Part before = parts_.Space(), close = builder_.Then(before, builder_.Bytes("}"));
    std::vector<std::string_view> names;
    for (const Property& property : properties) names.push_back(property.name);
    const auto member = [&](int32_t from, bool comma, const std::optional<Property>& property, int32_t to) {
      if (comma) {
        const Part mark = builder_.Bytes(","), space = builder_.Then(mark, parts_.Space());
        builder_.AddStep(from, space.start);
        from = space.end;
      }
      const Part key = property ? parts_.Key(property->name) : parts_.AnyKey(names);
      const Json* value_schema = property ? property->schema : others;
      const std::string value_place = property ? property->place : Below(place, "additionalProperties");
      const Part value = value_schema != nullptr ? Value(*value_schema, value_place) : AnyValue();
      builder_.AddStep(from, key.start);
      builder_.AddStep(key.end, value.start);
      builder_.AddStep(value.end, to);
    };
    int32_t none = start.end, some = -1;
    for (const Property& property : properties) {
      const int32_t written = builder_.AddNode();
      if (none >= 0) member(none, false, property, written);
      if (some >= 0) {
        member(some, true, property, written);
        if (!property.required) builder_.AddStep(some, written);
      }
      if (property.required) none = -1;
      some = written;
    }
    if (open_ended) {
      const int32_t written = builder_.AddNode();
      if (none >= 0) member(none, false, std::nullopt, written);
      if (some >= 0) builder_.AddStep(some, written);
      member(written, true, std::nullopt, written);
      some = written;
    }
    if (none >= 0) builder_.AddStep(none, close.start);
    if (some >= 0) builder_.AddStep(some, close.start);
    return builder_.Between(start.start, close.end, first);
  }

  const Json document_;
  AutomatonBuilder builder_;
  JsonParts parts_;
  absl::flat_hash_map<const Json*, int32_t> rules_;
  std::vector<Open> open_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Automaton>> CompileJsonSchema(std::string_view source) {
  ASSIGN_OR_RETURN(Json document, ReadStrictJson(source));
  return SchemaCompiler(std::move(document)).Compile();
}

}  // namespace conclave::engine::grammar
