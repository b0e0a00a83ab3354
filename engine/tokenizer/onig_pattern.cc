// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/onig_pattern.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "common/status.h"

namespace conclave::engine {
namespace {

constexpr std::string_view kWhiteSpace = CONCLAVE_WHITE_SPACE;
// Everything else, for \S inside a class.
constexpr std::string_view kNotWhiteSpace =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";
// Oniguruma's word characters: Alphabetic, marks, decimal digits, connectors.
constexpr std::string_view kWord =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{"
    "1f189}";

// General categories: the same names in both.
constexpr std::array<std::string_view, 37> kCategories = {
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};
// PCRE2 takes a bare script's name for its extensions, Oniguruma for the script.
constexpr std::array<std::string_view, 12> kScripts = {"Han",    "Hiragana",   "Katakana", "Hangul",
                                                       "Latin",  "Greek",      "Arabic",   "Cyrillic",
                                                       "Hebrew", "Devanagari", "Thai",     "Bengali"};
constexpr std::array<std::string_view, 9> kGroups = {"(?:",  "(?i:", "(?-i:", "(?=", "(?!",
                                                     "(?<=", "(?<!", "(?>",   "(?i)"};

template <typename List>
bool Has(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : rest_(pattern), whole_(pattern) {}

  absl::StatusOr<std::string> Translate() {
    while (!rest_.empty()) {
      if (in_class_) {
        RETURN_IF_ERROR(ClassItem());
      } else {
        RETURN_IF_ERROR(Item());
      }
    }
    if (in_class_) return Unknown("a class without its end");
    return std::move(out_);
  }

 private:
  absl::Status Unknown(std::string_view what) const {
    return InvalidArgument("the pattern {} has {} at offset {}, which this program does not translate", whole_, what,
                           whole_.size() - rest_.size());
  }
  bool Take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  char Next() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  absl::Status Item() {
    const char c = rest_.front();
    if (c == '\\') return Escape();
    if (c == '(') return Group();
    if (c == '{') return Counts();
    if (c == '[') {
      Next();
      out_ += Take("^") ? "[^" : "[";
      if (Take("]")) out_ += "\\]";  // first in a class it stands for itself
      in_class_ = true;
      return absl::OkStatus();
    }
    out_ += Next();
    return absl::OkStatus();
  }

  absl::Status Group() {
    if (!rest_.starts_with("(?")) {
      out_ += Next();
      return absl::OkStatus();
    }
    for (const std::string_view group : kGroups) {
      if (!Take(group)) continue;
      out_ += group;
      return absl::OkStatus();
    }
    return Unknown(fmt::format("\"{}\"", rest_.substr(0, 4)));
  }

  // Ruby's x{2,3}+ repeats x{2,3}; PCRE2's is possessive.
  absl::Status Counts() {
    const size_t end = rest_.find('}');
    const std::string_view counts = rest_.substr(0, end == std::string_view::npos ? 0 : end + 1);
    const bool quantifier =
        counts.size() > 2 && std::isdigit(static_cast<unsigned char>(counts[1])) != 0 &&
        counts.substr(1, counts.size() - 2).find_first_not_of("0123456789,") == std::string_view::npos;
    if (!quantifier) return Unknown("a brace that is no count");
    out_ += counts;
    rest_.remove_prefix(counts.size());
    if (rest_.starts_with("+")) return Unknown("\"+\" behind a count");
    return absl::OkStatus();
  }

  absl::Status ClassItem() {
    if (Take("]")) {
      out_ += ']';
      in_class_ = false;
      return absl::OkStatus();
    }
    if (rest_.starts_with("[")) return Unknown("a class within a class");
    if (rest_.starts_with("&&")) return Unknown("an intersection of classes");
    if (rest_.front() == '\\') return Escape();
    out_ += Next();
    return absl::OkStatus();
  }

  void AppendSet(std::string_view inside, bool negated) {
    if (in_class_) {
      out_ += inside;
    } else {
      out_.append(negated ? "[^" : "[").append(inside).append("]");
    }
  }

  absl::Status Escape() {
    if (rest_.size() < 2) return Unknown("a backslash at the end");
    const char c = rest_[1];
    if (c == 'p' || c == 'P') return Property();
    if (c == 'u' || c == 'x') return CodePoint();
    if (in_class_ && (c == 'W' || c == 'D')) return Unknown(fmt::format("\\{} in a class", c));
    switch (c) {
      case 's':
        AppendSet(kWhiteSpace, false);
        break;
      case 'S':
        AppendSet(in_class_ ? kNotWhiteSpace : kWhiteSpace, true);
        break;
      case 'w':
      case 'W':
        AppendSet(kWord, c == 'W');
        break;
      case 'd':
      case 'D':
        out_.append(c == 'd' ? "\\p{Nd}" : "\\P{Nd}");
        break;
      case 'v':  // one character here, a class in PCRE2
        out_ += "\\x{b}";
        break;
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        out_.append({'\\', c});
        break;
      case 'A':
      case 'z':
        if (in_class_) return Unknown(fmt::format("\\{} in a class", c));
        out_.append({'\\', c});
        break;
      default:
        if (std::isalnum(static_cast<unsigned char>(c)) != 0) return Unknown(fmt::format("\\{}", c));
        out_ += '\\';
        if (static_cast<unsigned char>(c) >= 0x80) out_.pop_back();
        out_ += c;
    }
    rest_.remove_prefix(2);
    return absl::OkStatus();
  }

  absl::Status Property() {
    const bool negated = rest_[1] == 'P';
    const size_t end = rest_.find('}');
    if (rest_.size() < 4 || rest_[2] != '{' || end == std::string_view::npos)
      return Unknown("a property without braces");
    std::string_view name = rest_.substr(3, end - 3);
    const bool caret = name.starts_with("^");
    if (caret) name.remove_prefix(1);
    const std::string_view letter = negated != caret ? "\\P{" : "\\p{";
    if (Has(kCategories, name)) {
      out_.append(letter).append(name).append("}");
    } else if (Has(kScripts, name)) {
      out_.append(letter).append("sc:").append(name).append("}");
    } else {
      return Unknown(fmt::format("the property \"{}\"", name));
    }
    rest_.remove_prefix(end + 1);
    return absl::OkStatus();
  }

  // \uHHHH, \xHH of ASCII, \x{H..}.
  absl::Status CodePoint() {
    const bool braces = rest_.substr(1).starts_with("x{");
    const size_t begin = braces ? 3 : 2;
    size_t end = begin;
    const size_t digits_max = braces ? 6 : rest_[1] == 'u' ? 4 : 2;
    while (end < rest_.size() && end - begin < digits_max &&
           std::isxdigit(static_cast<unsigned char>(rest_[end])) != 0) {
      ++end;
    }
    const std::string_view digits = rest_.substr(begin, end - begin);
    const bool complete = braces ? !digits.empty() && rest_.substr(end).starts_with("}") : digits.size() == digits_max;
    if (!complete) return Unknown("a code point that is not complete");
    if (!braces && rest_[1] == 'x' && digits[0] >= '8') return Unknown("a byte that is no character");
    out_.append("\\x{").append(digits).append("}");
    rest_.remove_prefix(end + (braces ? 1 : 0));
    return absl::OkStatus();
  }

  std::string_view rest_;
  const std::string_view whole_;
  std::string out_;
  bool in_class_ = false;
};

}  // namespace

absl::StatusOr<std::string> TranslateOnigPattern(std::string_view pattern) { return Translator(pattern).Translate(); }

std::string LiteralPattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && std::isalnum(byte) == 0) {
      pattern += fmt::format("\\x{{{:x}}}", byte);
    } else {
      pattern += c;
    }
  }
  return pattern;
}

}  // namespace conclave::engine
