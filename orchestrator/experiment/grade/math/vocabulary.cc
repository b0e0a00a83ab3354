// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/vocabulary.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>

namespace conclave::grade::math {
namespace {

struct Entry {
  std::string_view word;
  Action action;
  std::string_view text;
};

// Sorted by word; a static_assert below holds it to that.
constexpr std::array kCommands = std::to_array<Entry>({
    {"Alpha", Action::kSymbol, "Alpha"},
    {"Bbb", Action::kText, ""},
    {"Big", Action::kSkip, ""},
    {"Bigg", Action::kSkip, ""},
    {"Biggl", Action::kSkip, ""},
    {"Biggr", Action::kSkip, ""},
    {"Bigl", Action::kSkip, ""},
    {"Bigr", Action::kSkip, ""},
    {"Delta", Action::kSymbol, "Delta"},
    {"Gamma", Action::kSymbol, "Gamma"},
    {"Lambda", Action::kSymbol, "Lambda"},
    {"Omega", Action::kSymbol, "Omega"},
    {"Phi", Action::kSymbol, "Phi"},
    {"Pi", Action::kSymbol, "Pi"},
    {"Psi", Action::kSymbol, "Psi"},
    {"Sigma", Action::kSymbol, "Sigma"},
    {"Theta", Action::kSymbol, "Theta"},
    {"Xi", Action::kSymbol, "Xi"},
    {"alpha", Action::kSymbol, "alpha"},
    {"angle", Action::kSkip, ""},
    {"approx", Action::kSign, "~"},
    {"arccos", Action::kFunction, "arccos"},
    {"arcsin", Action::kFunction, "arcsin"},
    {"arctan", Action::kFunction, "arctan"},
    {"ast", Action::kSign, "*"},
    {"bar", Action::kSkip, ""},
    {"begin", Action::kBegin, ""},
    {"beta", Action::kSymbol, "beta"},
    {"big", Action::kSkip, ""},
    {"bigg", Action::kSkip, ""},
    {"biggl", Action::kSkip, ""},
    {"biggr", Action::kSkip, ""},
    {"bigl", Action::kSkip, ""},
    {"bigr", Action::kSkip, ""},
    {"binom", Action::kFunction, "binom"},
    {"boldsymbol", Action::kSkip, ""},
    {"boxed", Action::kSkip, ""},
    {"bullet", Action::kSign, "*"},
    {"cap", Action::kSign, "I"},
    {"cdot", Action::kSign, "*"},
    {"cdots", Action::kSymbol, "dots"},
    {"cfrac", Action::kFunction, "frac"},
    {"chi", Action::kSymbol, "chi"},
    {"circ", Action::kSign, "D"},
    {"colon", Action::kSign, ":"},
    {"cos", Action::kFunction, "cos"},
    {"cosh", Action::kFunction, "cosh"},
    {"cot", Action::kFunction, "cot"},
    {"csc", Action::kFunction, "csc"},
    {"cup", Action::kSign, "U"},
    {"dbinom", Action::kFunction, "binom"},
    {"degree", Action::kSign, "D"},
    {"delta", Action::kSymbol, "delta"},
    {"dfrac", Action::kFunction, "frac"},
    {"displaystyle", Action::kSkip, ""},
    {"div", Action::kSign, "/"},
    {"dots", Action::kSymbol, "dots"},
    {"ell", Action::kSymbol, "ell"},
    {"emptyset", Action::kSymbol, "emptyset"},
    {"end", Action::kEnd, ""},
    {"enspace", Action::kSkip, ""},
    {"epsilon", Action::kSymbol, "epsilon"},
    {"equiv", Action::kSign, "="},
    {"eta", Action::kSymbol, "eta"},
    {"exp", Action::kFunction, "exp"},
    {"fbox", Action::kSkip, ""},
    {"frac", Action::kFunction, "frac"},
    {"gamma", Action::kSymbol, "gamma"},
    {"gcd", Action::kFunction, "gcd"},
    {"ge", Action::kSign, "G"},
    {"geq", Action::kSign, "G"},
    {"geqslant", Action::kSign, "G"},
    {"gt", Action::kSign, ">"},
    {"hat", Action::kSkip, ""},
    {"hbox", Action::kText, ""},
    {"hspace", Action::kSkipArgument, ""},
    {"in", Action::kSign, "E"},
    {"infty", Action::kSymbol, "inf"},
    {"int", Action::kFunction, "int"},
    {"kappa", Action::kSymbol, "kappa"},
    {"lambda", Action::kSymbol, "lambda"},
    {"langle", Action::kSign, "("},
    {"lbrace", Action::kSign, "S"},
    {"lbrack", Action::kSign, "["},
    {"lceil", Action::kSign, "c"},
    {"ldots", Action::kSymbol, "dots"},
    {"le", Action::kSign, "L"},
    {"left", Action::kSkip, ""},
    {"leq", Action::kSign, "L"},
    {"leqslant", Action::kSign, "L"},
    {"lfloor", Action::kSign, "f"},
    {"lg", Action::kFunction, "log"},
    {"lim", Action::kFunction, "lim"},
    {"limits", Action::kSkip, ""},
    {"ln", Action::kFunction, "ln"},
    {"log", Action::kFunction, "log"},
    {"lt", Action::kSign, "<"},
    {"lvert", Action::kSign, "|"},
    {"mathbb", Action::kText, ""},
    {"mathbf", Action::kText, ""},
    {"mathcal", Action::kSkip, ""},
    {"mathit", Action::kText, ""},
    {"mathrm", Action::kText, ""},
    {"mathsf", Action::kText, ""},
    {"max", Action::kFunction, "max"},
    {"mbox", Action::kText, ""},
    {"measuredangle", Action::kSkip, ""},
    {"mid", Action::kSign, "|"},
    {"middle", Action::kSkip, ""},
    {"min", Action::kFunction, "min"},
    {"mp", Action::kSign, "M"},
    {"mu", Action::kSymbol, "mu"},
    {"ne", Action::kSign, "N"},
    {"neq", Action::kSign, "N"},
    {"nu", Action::kSymbol, "nu"},
    {"omega", Action::kSymbol, "omega"},
    {"operatorname", Action::kText, ""},
    {"overline", Action::kSkip, ""},
    {"overrightarrow", Action::kSkip, ""},
    {"partial", Action::kSymbol, "partial"},
    {"phantom", Action::kSkipArgument, ""},
    {"phi", Action::kSymbol, "phi"},
    {"pi", Action::kSymbol, "pi"},
    {"pm", Action::kSign, "P"},
    {"pmod", Action::kSkipArgument, ""},
    {"prime", Action::kSign, "'"},
    {"prod", Action::kFunction, "prod"},
    {"psi", Action::kSymbol, "psi"},
    {"qquad", Action::kSkip, ""},
    {"quad", Action::kSkip, ""},
    {"rangle", Action::kSign, ")"},
    {"rbrace", Action::kSign, "T"},
    {"rbrack", Action::kSign, "]"},
    {"rceil", Action::kSign, "d"},
    {"rfloor", Action::kSign, "g"},
    {"rho", Action::kSymbol, "rho"},
    {"right", Action::kSkip, ""},
    {"rvert", Action::kSign, "|"},
    {"sec", Action::kFunction, "sec"},
    {"setminus", Action::kSign, "\\"},
    {"sigma", Action::kSymbol, "sigma"},
    {"simeq", Action::kSign, "~"},
    {"sin", Action::kFunction, "sin"},
    {"sinh", Action::kFunction, "sinh"},
    {"sqrt", Action::kFunction, "sqrt"},
    {"sum", Action::kFunction, "sum"},
    {"tan", Action::kFunction, "tan"},
    {"tanh", Action::kFunction, "tanh"},
    {"tau", Action::kSymbol, "tau"},
    {"tbinom", Action::kFunction, "binom"},
    {"text", Action::kText, ""},
    {"textbf", Action::kText, ""},
    {"textit", Action::kText, ""},
    {"textnormal", Action::kText, ""},
    {"textrm", Action::kText, ""},
    {"textsf", Action::kText, ""},
    {"textstyle", Action::kSkip, ""},
    {"texttt", Action::kText, ""},
    {"tfrac", Action::kFunction, "frac"},
    {"theta", Action::kSymbol, "theta"},
    {"times", Action::kSign, "*"},
    {"triangle", Action::kSkip, ""},
    {"varepsilon", Action::kSymbol, "epsilon"},
    {"varnothing", Action::kSymbol, "emptyset"},
    {"varphi", Action::kSymbol, "phi"},
    {"vec", Action::kSkip, ""},
    {"vert", Action::kSign, "|"},
    {"xi", Action::kSymbol, "xi"},
    {"zeta", Action::kSymbol, "zeta"},
});

constexpr std::array kWords = std::to_array<Entry>({
    {"abs", Action::kFunction, "abs"},
    {"and", Action::kSign, "A"},
    {"arccos", Action::kFunction, "arccos"},
    {"arcsin", Action::kFunction, "arcsin"},
    {"arctan", Action::kFunction, "arctan"},
    {"cos", Action::kFunction, "cos"},
    {"cot", Action::kFunction, "cot"},
    {"csc", Action::kFunction, "csc"},
    {"degree", Action::kSign, "D"},
    {"degrees", Action::kSign, "D"},
    {"exp", Action::kFunction, "exp"},
    {"gcd", Action::kFunction, "gcd"},
    {"inf", Action::kSymbol, "inf"},
    {"infinity", Action::kSymbol, "inf"},
    {"infty", Action::kSymbol, "inf"},
    {"ln", Action::kFunction, "ln"},
    {"log", Action::kFunction, "log"},
    {"max", Action::kFunction, "max"},
    {"min", Action::kFunction, "min"},
    {"or", Action::kSign, "A"},
    {"pct", Action::kSign, "%"},
    {"percent", Action::kSign, "%"},
    {"percentage", Action::kSign, "%"},
    {"pi", Action::kSymbol, "pi"},
    {"sec", Action::kFunction, "sec"},
    {"sin", Action::kFunction, "sin"},
    {"sqrt", Action::kFunction, "sqrt"},
    {"tan", Action::kFunction, "tan"},
    {"theta", Action::kSymbol, "theta"},
});

constexpr bool Sorted(std::span<const Entry> table) {
  for (size_t i = 1; i < table.size(); ++i) {
    if (table[i - 1].word >= table[i].word) return false;
  }
  return true;
}
static_assert(Sorted(kCommands) && Sorted(kWords));

constexpr std::array kUnicode = std::to_array<Entry>({
    {"−", Action::kSign, "-"},        {"–", Action::kSign, "-"},       {"×", Action::kSign, "*"},
    {"·", Action::kSign, "*"},        {"⋅", Action::kSign, "*"},       {"÷", Action::kSign, "/"},
    {"≤", Action::kSign, "L"},        {"≥", Action::kSign, "G"},       {"≠", Action::kSign, "N"},
    {"≈", Action::kSign, "~"},        {"∈", Action::kSign, "E"},       {"∪", Action::kSign, "U"},
    {"∩", Action::kSign, "I"},        {"∞", Action::kSymbol, "inf"},   {"π", Action::kSymbol, "pi"},
    {"θ", Action::kSymbol, "theta"},  {"α", Action::kSymbol, "alpha"}, {"β", Action::kSymbol, "beta"},
    {"°", Action::kSign, "D"},        {"±", Action::kSign, "P"},       {"∓", Action::kSign, "M"},
    {"√", Action::kFunction, "sqrt"}, {"′", Action::kSign, "'"},       {"，", Action::kSign, ","},
    {"；", Action::kSign, ";"},       {"：", Action::kSign, ":"},      {"（", Action::kSign, "("},
    {"）", Action::kSign, ")"},       {"∠", Action::kSkip, ""},        {"€", Action::kSkip, ""},
    {"£", Action::kSkip, ""},         {"¥", Action::kSkip, ""},        {"₹", Action::kSkip, ""},
    {"\u00a0", Action::kSkip, ""},    {"\u2009", Action::kSkip, ""},   {"\u202f", Action::kSkip, ""},
    {"\u200b", Action::kSkip, ""},
});

constexpr auto kUnits = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"cm", "cm"},      {"centimeters", "cm"}, {"centimeter", "cm"},  {"mm", "mm"},         {"millimeters", "mm"},
    {"km", "km"},      {"kilometers", "km"},  {"kilometer", "km"},   {"meters", "m"},      {"meter", "m"},
    {"metres", "m"},   {"feet", "ft"},        {"foot", "ft"},        {"ft", "ft"},         {"inches", "in"},
    {"inch", "in"},    {"miles", "mi"},       {"mile", "mi"},        {"yards", "yd"},      {"yd", "yd"},
    {"seconds", "s"},  {"second", "s"},       {"minutes", "min"},    {"minute", "min"},    {"mins", "min"},
    {"hours", "h"},    {"hour", "h"},         {"hr", "h"},           {"hrs", "h"},         {"days", "day"},
    {"day", "day"},    {"weeks", "week"},     {"week", "week"},      {"years", "year"},    {"year", "year"},
    {"kg", "kg"},      {"kilograms", "kg"},   {"grams", "g"},        {"gram", "g"},        {"lb", "lb"},
    {"lbs", "lb"},     {"pounds", "lb"},      {"pound", "lb"},       {"ounces", "oz"},     {"oz", "oz"},
    {"cents", "cent"}, {"cent", "cent"},      {"dollars", "dollar"}, {"dollar", "dollar"}, {"mph", "mi/h"},
    {"ml", "ml"},      {"liters", "l"},       {"liter", "l"},        {"gallons", "gal"},
});

std::optional<Meaning> Find(std::span<const Entry> table, std::string_view word) {
  const auto found = std::lower_bound(table.begin(), table.end(), word,
                                      [](const Entry& entry, std::string_view name) { return entry.word < name; });
  if (found == table.end() || found->word != word) return std::nullopt;
  return Meaning{found->action, found->text};
}

}  // namespace

std::optional<Meaning> CommandMeaning(std::string_view name) { return Find(kCommands, name); }
std::optional<Meaning> WordMeaning(std::string_view word) { return Find(kWords, word); }

std::optional<Meaning> UnicodeMeaning(std::string_view text, size_t* bytes) {
  for (const Entry& entry : kUnicode) {
    if (!text.starts_with(entry.word)) continue;
    *bytes = entry.word.size();
    return Meaning{entry.action, entry.text};
  }
  return std::nullopt;
}

std::optional<std::string_view> UnitName(std::string_view word) {
  for (const auto& [written, name] : kUnits) {
    if (written == word) return name;
  }
  return std::nullopt;
}

}  // namespace conclave::grade::math
