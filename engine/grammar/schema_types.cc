// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/schema_types.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "absl/container/flat_hash_set.h"

namespace conclave::engine::grammar {
namespace {

struct TypeName {
  std::string_view name;
  uint32_t types;
};
constexpr std::array kTypeNames = {TypeName{"null", kNull},       TypeName{"boolean", kBoolean},
                                   TypeName{"integer", kInteger}, TypeName{"number", kNumber},
                                   TypeName{"string", kString},   TypeName{"array", kArray},
                                   TypeName{"object", kObject}};

// What a keyword is about: types, or 0 for all of them; and whether it is kept to.
struct Keyword {
  std::string_view name;
  uint32_t types;
  bool supported = true;
};
constexpr std::array kKeywords = {Keyword{"type", 0},
                                  Keyword{"enum", 0},
                                  Keyword{"const", 0},
                                  Keyword{"anyOf", 0},
                                  Keyword{"oneOf", 0},
                                  Keyword{"allOf", 0},
                                  Keyword{"$ref", 0},
                                  Keyword{"not", 0, false},
                                  Keyword{"if", 0, false},
                                  Keyword{"then", 0, false},
                                  Keyword{"else", 0, false},
                                  Keyword{"$dynamicRef", 0, false},
                                  Keyword{"properties", kObject},
                                  Keyword{"required", kObject},
                                  Keyword{"additionalProperties", kObject},
                                  Keyword{"patternProperties", kObject, false},
                                  Keyword{"propertyNames", kObject, false},
                                  Keyword{"minProperties", kObject, false},
                                  Keyword{"maxProperties", kObject, false},
                                  Keyword{"dependentRequired", kObject, false},
                                  Keyword{"dependentSchemas", kObject, false},
                                  Keyword{"unevaluatedProperties", kObject, false},
                                  Keyword{"items", kArray},
                                  Keyword{"prefixItems", kArray},
                                  Keyword{"minItems", kArray},
                                  Keyword{"maxItems", kArray},
                                  Keyword{"uniqueItems", kArray, false},
                                  Keyword{"contains", kArray, false},
                                  Keyword{"minContains", kArray, false},
                                  Keyword{"maxContains", kArray, false},
                                  Keyword{"unevaluatedItems", kArray, false},
                                  Keyword{"minLength", kString},
                                  Keyword{"maxLength", kString},
                                  Keyword{"pattern", kString},
                                  Keyword{"format", kString},
                                  Keyword{"contentEncoding", kString, false},
                                  Keyword{"contentMediaType", kString, false},
                                  Keyword{"minimum", kNumber},
                                  Keyword{"maximum", kNumber},
                                  Keyword{"exclusiveMinimum", kNumber},
                                  Keyword{"exclusiveMaximum", kNumber},
                                  Keyword{"multipleOf", kNumber, false}};
constexpr std::array<std::string_view, 12> kDescribing = {"title",   "description", "default",  "examples",
                                                          "$schema", "$id",         "$comment", "deprecated",
                                                          "$defs",   "definitions", "readOnly", "writeOnly"};

const Keyword* FindKeyword(std::string_view name) {
  const auto* const it =
      std::find_if(kKeywords.begin(), kKeywords.end(), [name](const Keyword& k) { return k.name == name; });
  return it == kKeywords.end() ? nullptr : it;
}

absl::StatusOr<uint32_t> TypeNamed(const Json& name, std::string_view place) {
  if (!name.is_string()) return SchemaError(place, "a type is a string, such as \"object\"");
  for (const TypeName& type : kTypeNames) {
    if (type.name == name.get_ref<const std::string&>()) return type.types;
  }
  return SchemaError(place, "\"{}\" is no type; known: null, boolean, integer, number, string, array, object",
                     name.get_ref<const std::string&>());
}

// The values that enum or const list; nullptr without.
const Json* Listed(const Json& schema) {
  if (schema.contains("const")) return &schema["const"];
  return schema.contains("enum") ? &schema["enum"] : nullptr;
}

// Calls each(text) for the values listed, equal texts for equal values. False: there is no list, or one with arrays and
// objects, whose equality is not as simple.
template <typename Each>
bool ForListed(const Json& schema, Each each) {
  const Json* listed = Listed(schema);
  if (listed == nullptr) return false;
  const bool single = schema.contains("const");
  if (!single && !listed->is_array()) return false;
  for (size_t i = 0; i < (single ? 1 : listed->size()); ++i) {
    const Json& value = single ? *listed : (*listed)[i];
    if (value.is_structured()) return false;
    each(value.is_number() ? Json(value.get<double>()).dump() : value.dump());
  }
  return true;
}

bool ListsShareNothing(const Json& a, const Json& b) {
  absl::flat_hash_set<std::string> of_a;
  bool shared = false;
  return ForListed(a, [&](std::string text) { of_a.insert(std::move(text)); }) &&
         ForListed(b, [&](const std::string& text) { shared = shared || of_a.contains(text); }) && !shared;
}

// A schema behind its references, as far as a few of them lead.
const Json* Target(const Json& document, const Json& schema) {
  constexpr int kHopsMax = 16;
  const Json* target = &schema;
  for (int i = 0; i < kHopsMax && target->is_object() && target->contains("$ref"); ++i) {
    const auto next = Resolve(document, (*target)["$ref"], "");
    if (!next.ok()) return nullptr;
    target = *next;
  }
  return target->is_object() && !target->contains("$ref") ? target : nullptr;
}

bool Requires(const Json& schema, const std::string& name) {
  return schema.contains("required") && schema["required"].is_array() &&
         std::find(schema["required"].begin(), schema["required"].end(), name) != schema["required"].end();
}

// Types of a schema in good order; all of them for one that is not.
uint32_t PossibleTypes(const Json& schema) {
  if (const Json* listed = Listed(schema); listed != nullptr) {
    if (schema.contains("const")) return TypeOf(*listed);
    uint32_t types = 0;
    for (const Json& value : *listed) types |= TypeOf(value);
    return types;
  }
  if (!schema.contains("type")) return kAnyType;
  const absl::StatusOr<uint32_t> types = TypesOf(schema, "");
  return types.ok() ? *types : kAnyType;
}

}  // namespace

std::string Below(std::string_view place, std::string_view key) {
  return place.empty() ? std::string(key) : fmt::format("{}.{}", place, key);
}

uint32_t TypeOf(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return kNull;
    case Json::value_t::boolean:
      return kBoolean;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return kInteger;
    case Json::value_t::number_float:
      return value.get<double>() == std::floor(value.get<double>()) ? kInteger : kFractional;
    case Json::value_t::string:
      return kString;
    case Json::value_t::array:
      return kArray;
    default:
      return kObject;
  }
}

bool OnlyDescribes(std::string_view keyword) {
  return std::find(kDescribing.begin(), kDescribing.end(), keyword) != kDescribing.end();
}

absl::StatusOr<uint32_t> TypesOf(const Json& schema, std::string_view place) {
  if (!schema.contains("type")) {
    uint32_t types = 0;
    for (const auto& [key, value] : schema.items()) {
      if (const Keyword* keyword = FindKeyword(key)) types |= keyword->types;
    }
    return types == 0 ? uint32_t{kAnyType} : types;
  }
  const std::string where = Below(place, "type");
  const Json& type = schema["type"];
  if (!type.is_array()) return TypeNamed(type, where);
  if (type.empty()) return SchemaError(where, "is an empty list");
  uint32_t types = 0;
  for (const Json& one : type) {
    ASSIGN_OR_RETURN(const uint32_t named, TypeNamed(one, where));
    types |= named;
  }
  return types;
}

absl::Status CheckKeywords(const Json& schema, uint32_t types, std::string_view place) {
  for (const auto& [key, value] : schema.items()) {
    if (OnlyDescribes(key)) continue;
    const Keyword* keyword = FindKeyword(key);
    if (keyword == nullptr) return SchemaError(Below(place, key), "this keyword is not known");
    const bool says_nothing = key == "uniqueItems" && value == false;
    const bool concerned = keyword->types == 0 || (keyword->types & types) != 0;
    if (!keyword->supported && concerned && !says_nothing) {
      return SchemaError(Below(place, key), "this keyword is not supported in a constraint");
    }
  }
  return absl::OkStatus();
}

bool Exclude(const Json& document, const Json& a, const Json& b) {
  const Json *x = Target(document, a), *y = Target(document, b);
  if (x == nullptr || y == nullptr) return false;
  if ((PossibleTypes(*x) & PossibleTypes(*y)) == 0 || ListsShareNothing(*x, *y)) return true;
  if (PossibleTypes(*x) != kObject || PossibleTypes(*y) != kObject || !x->contains("properties") ||
      !y->contains("properties") || !(*x)["properties"].is_object() || !(*y)["properties"].is_object()) {
    return false;
  }
  for (const auto& [name, property] : (*x)["properties"].items()) {
    if (!(*y)["properties"].contains(name) || !Requires(*x, name) || !Requires(*y, name)) continue;
    const Json& other = (*y)["properties"][name];
    if (property.is_object() && other.is_object() && ListsShareNothing(property, other)) return true;
  }
  return false;
}

absl::StatusOr<const Json*> Resolve(const Json& document, const Json& reference, std::string_view place) {
  if (!reference.is_string()) return SchemaError(place, "a reference is a string, such as \"#/$defs/name\"");
  const auto& text = reference.get_ref<const std::string&>();
  if (!text.starts_with('#') || text.find('%') != text.npos || (text.size() > 1 && text[1] != '/')) {
    return SchemaError(place, "\"{}\" is not supported; known are \"#\" and \"#/..\" of the same document", text);
  }
  const Json* at = &document;
  for (size_t begin = 1; begin < text.size();) {
    const size_t end = std::min(text.find('/', begin + 1), text.size());
    std::string key = text.substr(begin + 1, end - begin - 1);
    for (const auto& [escaped, plain] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}}) {
      for (size_t i = key.find(escaped); i != key.npos; i = key.find(escaped, i + 1)) key.replace(i, 2, plain);
    }
    const bool index = at->is_array() && !key.empty() && key.size() < 6 &&
                       key.find_first_not_of("0123456789") == key.npos && std::stoul(key) < at->size();
    if (index) {
      at = &(*at)[std::stoul(key)];
    } else if (at->is_object() && at->contains(key)) {
      at = &(*at)[key];
    } else {
      return SchemaError(place, "\"{}\" points at nothing", text);
    }
    begin = end;
  }
  return at;
}

}  // namespace conclave::engine::grammar
