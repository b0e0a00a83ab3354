// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/steps/solvers_testing.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <sstream>
#include <string_view>
#include <vector>

namespace conclave::benchmark {
namespace {

using Numbers = std::vector<int64_t>;

// Every whole number of the text, a minus directly before it included when `negative` allows.
Numbers NumbersIn(std::string_view text, bool negative = false) {
  Numbers numbers;
  for (size_t i = 0; i < text.size();) {
    if (text[i] < '0' || text[i] > '9') {
      ++i;
      continue;
    }
    const bool minus = negative && i > 0 && text[i - 1] == '-';
    int64_t value = 0;
    for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) value = value * 10 + (text[i] - '0');
    numbers.push_back(minus ? -value : value);
  }
  return numbers;
}

std::string Between(const std::string& text, const std::string& before, const std::string& after) {
  const size_t begin = text.find(before) + before.size();
  return text.substr(begin, text.find(after, begin) - begin);
}

std::vector<std::string> Split(const std::string& text, const std::string& by) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = text.find(by); end != std::string::npos; end = text.find(by, begin)) {
    parts.push_back(text.substr(begin, end - begin));
    begin = end + by.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

int64_t Addition(const std::string& question) {
  const Numbers n = NumbersIn(question);
  return std::accumulate(n.begin(), n.end(), int64_t{0});
}

int64_t Subtraction(const std::string& question) { return NumbersIn(question)[0] - NumbersIn(question)[1]; }

int64_t Multiply(const std::string& question) { return NumbersIn(question)[0] * NumbersIn(question)[1]; }

// Sentences, one operation each; reduced at the end only.
int64_t Operations(const std::string& question, int64_t modulus) {
  int64_t value = NumbersIn(Between(question, "Start with", "."))[0];
  for (const std::string& sentence : Split(question, ". ")) {
    const Numbers n = NumbersIn(sentence);
    if (Has(sentence, "Add ")) value += n[0];
    if (Has(sentence, "Subtract ")) value -= n[0];
    if (Has(sentence, "Multiply ")) value *= n[0];
    if (Has(sentence, "Divide ")) value = value % n[0] == 0 ? value / n[0] : int64_t{-1'000'000'000};
  }
  return modulus == 0 ? value : value % modulus;
}

int64_t Chain(const std::string& question) { return Operations(question, 0); }

int64_t Modular(const std::string& question) { return Operations(question, NumbersIn(question)[0]); }

int64_t Program(const std::string& question) {
  std::map<std::string, int64_t> values;
  const std::vector<std::string> halves = Split(question, ". Repeat ");
  for (const std::string& given : Split(halves[0], ", ")) values[given.substr(0, 1)] = NumbersIn(given)[0];
  const auto value = [&](const std::string& word) { return values.contains(word) ? values[word] : NumbersIn(word)[0]; };
  for (int64_t i = NumbersIn(halves[1])[0]; i > 0; --i) {
    for (std::string statement : Split(Between(halves[1], "times: ", "."), "; ")) {
      if (Has(statement, "if ")) {
        if (value(Between(statement, "if ", " is")) % 2 != 0) continue;
        statement = statement.substr(statement.find(", ") + 2);
      }
      const std::vector<std::string> sides = Split(statement, " = ");
      const std::vector<std::string> terms = Split(sides[1], " + ");
      values[sides[0]] = value(terms[0]) + value(terms[1]);
    }
  }
  return values["x"];
}

int64_t Base(const std::string& question) {
  const Numbers n = NumbersIn(question);  // digits, base, base
  int64_t value = 0;
  if (n[2] == 10) {
    int64_t place = 1;
    for (int64_t rest = n[0]; rest > 0; rest /= 10, place *= n[1]) value += rest % 10 * place;
    return value;
  }
  int64_t place = 1;
  for (int64_t rest = n[0]; rest > 0; rest /= n[2], place *= 10) value += rest % n[2] * place;
  return value;
}

// Days since 1 March of year 0, counted with the years from March to February.
int64_t DayNumber(const std::string& date) {
  const std::vector<std::string> words = Split(date, " ");
  constexpr std::string_view kMonths = "MarAprMayJunJulAugSepOctNovDecJanFeb";
  const auto month = static_cast<int64_t>(kMonths.find(words[1].substr(0, 3)) / 3);
  const int64_t year = std::stoll(words[2]) - (month >= 10 ? 1 : 0);
  return 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + std::stoll(words[0]) - 1;
}

int64_t Dates(const std::string& question) {
  return DayNumber(Between(question, " to ", "?")) - DayNumber(Between(question, " from ", " to "));
}

// Tries every value.
int64_t Equation(const std::string& question) {
  const Numbers n = NumbersIn(question);
  for (int64_t x = 0; x < 200; ++x) {
    if (Has(question, "x + y")) {  // s, p, q, total
      if (n[1] * x + n[2] * (n[0] - x) == n[3]) return x * (n[0] - x);
      continue;
    }
    const bool bracket = Has(question, "(");
    const int64_t left = bracket ? n[0] * (x + n[1]) + n[2] : n[0] * x + n[1];
    const size_t right = bracket ? 3 : 2;
    if (left == (n.size() == right + 1 ? n[right] : n[right] * x + n[right + 1])) return x;
  }
  return -1;
}

int64_t Multiple(const std::string& question) { return std::lcm(NumbersIn(question)[0], NumbersIn(question)[1]); }

// Removes matched pairs until a prefix has none left: the first prefix whose rest holds a closing bracket is at fault.
int64_t Brackets(const std::string& question) {
  std::string text = Between(question, "Brackets: ", ".");
  std::erase(text, ' ');
  for (size_t length = 1; length <= text.size(); ++length) {
    std::string rest = text.substr(0, length);
    for (bool changed = true; changed;) {
      changed = false;
      for (const char* pair : {"()", "[]", "{}"}) {
        const size_t at = rest.find(pair);
        if (at == std::string::npos) continue;
        rest.erase(at, 2);
        changed = true;
      }
    }
    if (rest.find_first_of(")]}") != std::string::npos) return static_cast<int64_t>(length);
  }
  return 0;
}

int64_t Counting(const std::string& question) {
  const std::string letters = Between(question, "The letters ", " have");
  const Numbers worth = NumbersIn(question);
  int64_t sum = 0;
  for (const char c : letters) sum += c == ' ' ? 0 : worth[static_cast<size_t>(c - 'a')];
  return sum;
}

int64_t Lists(const std::string& question) {
  Numbers list = NumbersIn(Between(question, "list ", "."));
  for (const std::string& sentence : Split(question, ". ")) {
    const Numbers n = NumbersIn(sentence);
    const auto size = static_cast<std::ptrdiff_t>(list.size());
    if (Has(sentence, "Reverse")) list = Numbers(list.rbegin(), list.rend());
    if (Has(sentence, "Move the first")) list.push_back(list[0]);
    if (Has(sentence, "Move the first") || Has(sentence, "Drop the first")) list.erase(list.begin());
    if (Has(sentence, "Drop the last")) list.resize(static_cast<size_t>(size - 1));
    if (Has(sentence, "Append")) list.push_back(n[0]);
    if (Has(sentence, "Swap")) {
      std::swap(list.at(static_cast<size_t>(n[0] - 1)), list.at(static_cast<size_t>(n[1] - 1)));
    }
    if (Has(sentence, "Which is")) return list.at(static_cast<size_t>(n[0] - 1));
  }
  return -1;
}

int64_t Maximum(const std::string& question) {  // every run
  const Numbers n = NumbersIn(question, true);
  int64_t best = n[0];
  for (size_t begin = 0; begin < n.size(); ++begin) {
    int64_t sum = 0;
    for (size_t end = begin; end < n.size(); ++end) best = std::max(best, sum += n[end]);
  }
  return best;
}

int64_t Sorting(const std::string& question) {
  Numbers n = NumbersIn(question);
  const auto place = static_cast<size_t>(n.back());
  n.pop_back();
  std::sort(n.begin(), n.end());
  return n[place - 1];
}

int64_t Boolean(const std::string& question) {
  int64_t value = 0;
  size_t bits = 0;
  for (const std::string& part : Split(Between(question, "bits ", "."), ", then ")) {
    const std::string digits = part.substr(part.find_last_of(' ') == std::string::npos ? 0 : part.rfind(' ') + 1);
    const int64_t operand = digits == "not" ? 0 : std::stoll(digits, nullptr, 2);
    if (part == "not") {
      value = (int64_t{1} << bits) - 1 - value;
    } else if (part.starts_with("and")) {
      value &= operand;
    } else if (part.starts_with("or")) {
      value |= operand;
    } else if (part.starts_with("xor")) {
      value ^= operand;
    } else {
      value = operand;
      bits = digits.size();
    }
  }
  return value;
}

int64_t Graph(const std::string& question) {  // Bellman and Ford
  std::map<std::string, int64_t> distance = {{"A", 0}};
  const std::vector<std::string> roads = Split(Between(question, "roads: ", "."), ", ");
  for (size_t round = 0; round < roads.size(); ++round) {
    for (const std::string& road : roads) {
      const std::vector<std::string> words = Split(road, " ");  // A to B 4
      if (!distance.contains(words[0])) continue;
      const int64_t length = distance[words[0]] + std::stoll(words[3]);
      if (!distance.contains(words[2]) || length < distance[words[2]]) distance[words[2]] = length;
    }
  }
  return distance.at(Between(question, "from A to ", "?"));
}

// Every assignment of kinds; the coins of the honest in the only consistent one.
int64_t Liars(const std::string& question) {
  std::vector<std::string> says;  // sentences about people
  for (const std::string& sentence : Split(question, ". ")) {
    if (Has(sentence, "(")) says.push_back(sentence);
  }
  std::map<std::string, size_t> index;
  for (const std::string& s : says) index.try_emplace(Split(s, " ")[0], index.size());
  int64_t found = -1;
  for (uint32_t world = 0; world < (1u << says.size()); ++world) {
    const auto honest = [&](const std::string& name) { return (world >> index.at(name) & 1) != 0; };
    bool consistent = true;
    int64_t coins = 0;
    for (const std::string& s : says) {
      const std::vector<std::string> w = Split(s, " ");
      if (honest(w[0])) coins += NumbersIn(w[1])[0];
      bool claim = honest(w[0]);  // of "is honest"
      if (w[2] == "says" && w[4] == "and") {
        claim = (honest(w[3]) == honest(w[5])) == (w.back() == "alike");
      } else if (w[2] == "says") {
        claim = honest(w[3]) == (w.back() == "honest");
      }
      consistent = consistent && (w[2] == "says" ? claim == honest(w[0]) : claim);
    }
    if (!consistent) continue;
    if (found >= 0) return -1;
    found = coins;
  }
  return found;
}

int64_t Sets(const std::string& question) {
  std::map<std::string, std::set<int64_t>> sets;
  for (const std::string& given : Split(Between(question, "Sets: ", "."), ", ")) {
    const Numbers n = NumbersIn(given);
    sets[given.substr(0, 1)] = std::set<int64_t>(n.begin(), n.end());
  }
  std::string words = Between(question, "numbers in ", "?");
  std::erase_if(words, [](char c) { return c == '(' || c == ')'; });
  const std::vector<std::string> parts = Split(words, " ");  // P or Q and R: from the left
  int64_t sum = 0;
  for (int64_t x = 0; x < 100; ++x) {
    bool in = sets.at(parts[0]).contains(x);
    for (size_t i = 1; i < parts.size(); i += 2) {
      const bool other = sets.at(parts[i + 1]).contains(x);
      in = parts[i] == "and" ? in && other : parts[i] == "or" ? in || other : in && !other;
    }
    if (in) sum += x;
  }
  return sum;
}

}  // namespace

const std::map<std::string, int64_t (*)(const std::string& question)>& Solvers() {
  static const std::map<std::string, int64_t (*)(const std::string& question)> solvers = {{"addition", Addition},
                                                                                          {"base", Base},
                                                                                          {"boolean", Boolean},
                                                                                          {"brackets", Brackets},
                                                                                          {"chain", Chain},
                                                                                          {"counting", Counting},
                                                                                          {"dates", Dates},
                                                                                          {"equation", Equation},
                                                                                          {"graph", Graph},
                                                                                          {"liars", Liars},
                                                                                          {"lists", Lists},
                                                                                          {"maximum", Maximum},
                                                                                          {"modular", Modular},
                                                                                          {"multiple", Multiple},
                                                                                          {"multiply", Multiply},
                                                                                          {"program", Program},
                                                                                          {"sets", Sets},
                                                                                          {"sorting", Sorting},
                                                                                          {"subtraction", Subtraction}};
  return solvers;
}

}  // namespace conclave::benchmark
