// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/hf_pipeline.h"

#include <array>
#include <optional>

#include "common/status.h"
#include "engine/tokenizer/onig_pattern.h"
#include "engine/tokenizer/token_text.h"

namespace conclave::engine {
namespace {

using Kind = NormalizerStep::Kind;

constexpr size_t kStepsMax = 256;

absl::Status Unknown(const JsonValue& value, std::string_view what) {
  return Unimplemented("{}: \"{}\" {}", value.file(), value.where(), what);
}

// The steps of a section in order: "Sequence" is taken apart, a null section has none. `list_key` names a sequence's
// own list.
absl::StatusOr<std::vector<JsonObject>> Flatten(const JsonObject& root, std::string_view section,
                                                std::string_view list_key) {
  std::vector<JsonObject> steps;
  const JsonValue* top = root.Find(section);
  if (top == nullptr) return steps;
  std::vector<JsonValue> open = {*top};  // a stack, the next on top
  while (!open.empty()) {
    const JsonValue value = open.back();
    open.pop_back();
    ASSIGN_OR_RETURN(JsonObject step, value.Object());
    ASSIGN_OR_RETURN(const std::string_view type, step.StringOr("type", ""));
    if (type == "Sequence") {
      ASSIGN_OR_RETURN(const JsonValue list, step.Get(list_key));
      ASSIGN_OR_RETURN(const std::vector<JsonValue> inner, list.Array());
      open.insert(open.end(), inner.rbegin(), inner.rend());
    } else {
      steps.push_back(std::move(step));
    }
    if (steps.size() + open.size() > kStepsMax) return top->Invalid(fmt::format("has more than {} steps", kStepsMax));
  }
  return steps;
}

absl::StatusOr<std::string_view> TypeOf(const JsonObject& step) {
  ASSIGN_OR_RETURN(const JsonValue type, step.Get("type"));
  return type.String();
}

// {"String": s} or {"Regex": r}.
struct Pattern {
  std::string text;
  bool regex;
};
absl::StatusOr<Pattern> ReadPattern(const JsonObject& step) {
  ASSIGN_OR_RETURN(const JsonValue value, step.Get("pattern"));
  ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  const bool regex = object.Has("Regex");
  ASSIGN_OR_RETURN(const JsonValue text_value, object.Get(regex ? "Regex" : "String"));
  ASSIGN_OR_RETURN(const std::string_view text, text_value.String());
  if (text.empty()) return text_value.Invalid("is empty");
  return Pattern{std::string(text), regex};
}

absl::Status ReadNormalizerStep(const JsonObject& step, std::vector<NormalizerStep>* steps) {
  ASSIGN_OR_RETURN(const std::string_view type, TypeOf(step));
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    steps->push_back({.kind = type == "NFC"    ? Kind::kNfc
                              : type == "NFD"  ? Kind::kNfd
                              : type == "NFKC" ? Kind::kNfkc
                                               : Kind::kNfkd});
  } else if (type == "Prepend") {
    ASSIGN_OR_RETURN(const JsonValue value, step.Get("prepend"));
    ASSIGN_OR_RETURN(const std::string_view text, value.String());
    steps->push_back({.kind = Kind::kPrepend, .content = std::string(text)});
  } else if (type == "Replace") {
    ASSIGN_OR_RETURN(const Pattern pattern, ReadPattern(step));
    ASSIGN_OR_RETURN(const std::string_view content, step.StringOr("content", ""));
    steps->push_back({.kind = pattern.regex ? Kind::kReplaceRegex : Kind::kReplace,
                      .pattern = pattern.text,
                      .content = std::string(content)});
  } else if (type == "Strip") {
    ASSIGN_OR_RETURN(const bool left, step.BoolOr("strip_left", true));
    ASSIGN_OR_RETURN(const bool right, step.BoolOr("strip_right", true));
    if (left) steps->push_back({.kind = Kind::kStripLeft});
    if (right) steps->push_back({.kind = Kind::kStripRight});
  } else {
    return Unknown(step.self(), fmt::format("is the normaliser \"{}\"; known are NFC, NFD, NFKC, NFKD, Prepend, "
                                            "Replace, Strip and Sequence",
                                            type));
  }
  return absl::OkStatus();
}

absl::StatusOr<SplitBehavior> ReadBehavior(const JsonObject& step) {
  ASSIGN_OR_RETURN(const std::string_view name, step.StringOr("behavior", "Isolated"));
  constexpr std::array<std::pair<std::string_view, SplitBehavior>, 4> kNames = {
      {{"Isolated", SplitBehavior::kIsolated},
       {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
       {"MergedWithNext", SplitBehavior::kMergedWithNext},
       {"Contiguous", SplitBehavior::kContiguous}}};
  for (const auto& [known, behavior] : kNames) {
    if (known == name) return behavior;
  }
  return Unknown(step.self(), fmt::format("has the behaviour \"{}\"; known are Isolated, MergedWithPrevious, "
                                          "MergedWithNext and Contiguous",
                                          name));
}

absl::StatusOr<SplitRule> ReadSplit(const JsonObject& step) {
  SplitRule rule;
  ASSIGN_OR_RETURN(const Pattern pattern, ReadPattern(step));
  if (pattern.regex) {
    absl::StatusOr<std::string> translated = TranslateOnigPattern(pattern.text);
    if (!translated.ok()) return Unknown(step.self(), Message(translated.status()));
    rule.pattern = *std::move(translated);
    rule.ruby = true;
  } else {
    rule.pattern = LiteralPattern(pattern.text);
  }
  ASSIGN_OR_RETURN(rule.behavior, ReadBehavior(step));
  ASSIGN_OR_RETURN(rule.invert, step.BoolOr("invert", false));
  return rule;
}

absl::Status ReadMetaspace(const JsonObject& step, TextPipeline* pipeline) {
  ASSIGN_OR_RETURN(const std::string_view mark, step.StringOr("replacement", kSpaceMark));
  if (mark.empty()) return step.self().Invalid("has an empty replacement");
  ASSIGN_OR_RETURN(const bool prefix_space, step.BoolOr("add_prefix_space", true));  // how it was once written
  ASSIGN_OR_RETURN(const std::string_view scheme, step.StringOr("prepend_scheme", prefix_space ? "always" : "never"));
  ASSIGN_OR_RETURN(const bool split, step.BoolOr("split", true));
  pipeline->prepare.push_back({.kind = Kind::kReplace, .pattern = " ", .content = std::string(mark)});
  if (scheme == "always" || scheme == "first") {
    pipeline->prepare.push_back(
        {.kind = scheme == "always" ? Kind::kPrependUnlessThere : Kind::kPrependUnlessThereAtStart,
         .content = std::string(mark)});
  } else if (scheme != "never") {
    return Unknown(step.self(),
                   fmt::format("has the prepend scheme \"{}\"; known are always, first and never", scheme));
  }
  if (split) pipeline->split.push_back({.pattern = LiteralPattern(mark), .behavior = SplitBehavior::kMergedWithNext});
  return absl::OkStatus();
}

absl::Status ReadByteLevel(const JsonObject& step, bool first, TextPipeline* pipeline) {
  ASSIGN_OR_RETURN(const bool prefix_space, step.BoolOr("add_prefix_space", true));
  ASSIGN_OR_RETURN(const bool use_regex, step.BoolOr("use_regex", true));
  if (prefix_space) {
    if (!first) return Unknown(step.self(), "adds a space before pieces of a text that was split before it");
    pipeline->prepare.push_back({.kind = Kind::kPrependUnlessThere, .content = " "});
  }
  if (use_regex) pipeline->split.push_back({.pattern = std::string(Gpt2Pattern())});
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadHfNormalizer(const JsonObject& root, TextPipeline* pipeline) {
  ASSIGN_OR_RETURN(const std::vector<JsonObject> steps, Flatten(root, "normalizer", "normalizers"));
  for (const JsonObject& step : steps) RETURN_IF_ERROR(ReadNormalizerStep(step, &pipeline->normalize));
  return absl::OkStatus();
}

absl::StatusOr<HfSplit> ReadHfPreTokenizer(const JsonObject& root, TextPipeline* pipeline) {
  ASSIGN_OR_RETURN(const std::vector<JsonObject> steps, Flatten(root, "pre_tokenizer", "pretokenizers"));
  HfSplit result;
  for (const JsonObject& step : steps) {
    ASSIGN_OR_RETURN(const std::string_view type, TypeOf(step));
    const bool first = &step == &steps.front();
    if (result.byte_level) return Unknown(step.self(), "comes after ByteLevel, which must be the last pre-tokeniser");
    if (type == "Split") {
      ASSIGN_OR_RETURN(SplitRule rule, ReadSplit(step));
      pipeline->split.push_back(std::move(rule));
    } else if (type == "Digits") {
      ASSIGN_OR_RETURN(const bool individual, step.BoolOr("individual_digits", false));
      pipeline->split.push_back({.pattern = individual ? "\\p{N}" : "\\p{N}+"});
    } else if (type == "Punctuation") {
      ASSIGN_OR_RETURN(const SplitBehavior behavior, ReadBehavior(step));
      pipeline->split.push_back({.pattern = "[!-/:-@\\[-`{-~\\p{P}]", .behavior = behavior});
    } else if (type == "ByteLevel") {
      RETURN_IF_ERROR(ReadByteLevel(step, first, pipeline));
      result.byte_level = true;
    } else if (type == "Metaspace") {
      if (!first) return Unknown(step.self(), "is a Metaspace after another pre-tokeniser");
      RETURN_IF_ERROR(ReadMetaspace(step, pipeline));
    } else {
      return Unknown(step.self(), fmt::format("is the pre-tokeniser \"{}\"; known are Split, Digits, Punctuation, "
                                              "ByteLevel, Metaspace and Sequence",
                                              type));
    }
  }
  return result;
}

namespace {

// TemplateProcessing for one text: [{"SpecialToken": {"id": name}}, {"Sequence": {"id": "A"}}, ..].
absl::Status ReadTemplate(const JsonObject& step, TextPipeline* pipeline) {
  ASSIGN_OR_RETURN(const JsonValue single, step.Get("single"));
  ASSIGN_OR_RETURN(const std::vector<JsonValue> items, single.Array());
  ASSIGN_OR_RETURN(const JsonValue tokens_value, step.Get("special_tokens"));
  ASSIGN_OR_RETURN(const JsonObject tokens, tokens_value.Object());
  bool after_text = false;
  for (const JsonValue& item : items) {
    ASSIGN_OR_RETURN(const JsonObject object, item.Object());
    if (object.Has("Sequence")) {
      if (after_text) return item.Invalid("is a second place for the text");
      after_text = true;
      continue;
    }
    ASSIGN_OR_RETURN(const JsonValue special, object.Get("SpecialToken"));
    ASSIGN_OR_RETURN(const JsonObject reference, special.Object());
    ASSIGN_OR_RETURN(const JsonValue name, reference.Get("id"));
    ASSIGN_OR_RETURN(const std::string_view key, name.String());
    ASSIGN_OR_RETURN(const JsonValue token_value, tokens.Get(key));
    ASSIGN_OR_RETURN(const JsonObject token, token_value.Object());
    ASSIGN_OR_RETURN(const JsonValue ids_value, token.Get("ids"));
    ASSIGN_OR_RETURN(const std::vector<JsonValue> ids, ids_value.Array());
    for (const JsonValue& value : ids) {
      ASSIGN_OR_RETURN(const int64_t id, value.Integer(0, kVocabularyTokensMax - 1));
      (after_text ? pipeline->suffix : pipeline->prefix).push_back(static_cast<TokenId>(id));
    }
  }
  if (!after_text) return single.Invalid("has no place for the text");
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadHfPostProcessor(const JsonObject& root, TextPipeline* pipeline) {
  ASSIGN_OR_RETURN(const std::vector<JsonObject> steps, Flatten(root, "post_processor", "processors"));
  for (const JsonObject& step : steps) {
    ASSIGN_OR_RETURN(const std::string_view type, TypeOf(step));
    if (type == "ByteLevel") continue;  // changes offsets only
    if (type != "TemplateProcessing") {
      return Unknown(step.self(), fmt::format("is the post-processor \"{}\"; known are TemplateProcessing, ByteLevel "
                                              "and Sequence",
                                              type));
    }
    TextPipeline around;  // a later template goes around an earlier one
    RETURN_IF_ERROR(ReadTemplate(step, &around));
    pipeline->prefix.insert(pipeline->prefix.begin(), around.prefix.begin(), around.prefix.end());
    pipeline->suffix.insert(pipeline->suffix.end(), around.suffix.begin(), around.suffix.end());
  }
  return absl::OkStatus();
}

absl::Status ReadHfDecoder(const JsonObject& root, bool byte_level, bool byte_fallback, TextPipeline* pipeline) {
  ASSIGN_OR_RETURN(const std::vector<JsonObject> steps, Flatten(root, "decoder", "decoders"));
  bool bytes_undone = false, levels_undone = false;
  for (const JsonObject& step : steps) {
    ASSIGN_OR_RETURN(const std::string_view type, TypeOf(step));
    if (type == "ByteLevel") {
      levels_undone = true;
    } else if (type == "ByteFallback") {
      bytes_undone = true;
    } else if (type == "Fuse") {
      continue;  // tokens become one text, which they are here anyway
    } else if (type == "Replace" && !byte_level) {
      RETURN_IF_ERROR(ReadNormalizerStep(step, &pipeline->decode));
    } else if (type == "Metaspace" && !byte_level) {
      ASSIGN_OR_RETURN(const std::string_view mark, step.StringOr("replacement", kSpaceMark));
      ASSIGN_OR_RETURN(const bool prefix_space, step.BoolOr("add_prefix_space", true));
      ASSIGN_OR_RETURN(const std::string_view scheme,
                       step.StringOr("prepend_scheme", prefix_space ? "always" : "never"));
      pipeline->decode.push_back({.kind = Kind::kReplace, .pattern = std::string(mark), .content = " "});
      pipeline->strip_first_space = scheme != "never";
    } else if (type == "Strip" && !byte_level) {
      ASSIGN_OR_RETURN(const std::string_view content, step.StringOr("content", ""));
      ASSIGN_OR_RETURN(const int64_t start, step.IntegerOr("start", 0, 1, 0));
      ASSIGN_OR_RETURN(const int64_t stop, step.IntegerOr("stop", 0, 0, 0));
      if (content != " " || stop != 0) return Unknown(step.self(), "strips other than one leading space");
      pipeline->strip_first_space = start == 1;
    } else {
      return Unknown(step.self(), fmt::format("is the decoder \"{}\", not known for {} tokens", type,
                                              byte_level ? "byte-level" : "character"));
    }
  }
  if (byte_level != levels_undone) {
    return Unknown(root.self(), "needs the decoder ByteLevel exactly where the pre-tokeniser is");
  }
  if (byte_fallback && !bytes_undone) return Unknown(root.self(), "has byte_fallback without the decoder ByteFallback");
  if (!byte_level && steps.empty()) return Unknown(root.self(), "has no decoder");
  return absl::OkStatus();
}

}  // namespace conclave::engine
