// SPDX-License-Identifier: Apache-2.0
// Lists, letters and brackets: the whole list, or what is to be remembered of it, is written after every step.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "orchestrator/experiment/benchmark/steps/families.h"

namespace conclave::benchmark {
namespace {

using List = std::vector<int64_t>;

std::string Shown(const List& list) { return fmt::format("{}", fmt::join(list, " ")); }

List SomeNumbers(Dice& dice, size_t count, int64_t low, int64_t high) {  // distinct
  List list;
  while (list.size() < count) {
    const int64_t value = dice.Between(low, high);
    if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
  }
  return list;
}

size_t Somewhere(Dice& dice, size_t size) {
  return static_cast<size_t>(dice.Between(0, static_cast<int64_t>(size) - 1));
}

// The list as copied, at a slip with one number wrong, one left out, or two neighbours swapped.
List Copied(List list, Hand& hand) {
  if (!hand.Slips() || list.empty()) return list;
  const size_t at = Somewhere(hand.dice(), list.size());
  const int64_t kind = list.size() < 2 ? 0 : hand.dice().Between(0, 2);
  if (kind == 0) list[at] = hand.Mistaken(list[at]);
  if (kind == 1) list.erase(list.begin() + static_cast<std::ptrdiff_t>(at));
  if (kind == 2) std::swap(list[at], list[(at + 1) % list.size()]);
  return list;
}

constexpr std::string_view kOpening = "([{";
constexpr std::string_view kClosing = ")]}";

std::string Spaced(const std::string& text) {
  std::string spaced;
  for (const char c : text) {
    if (!spaced.empty()) spaced += ' ';
    spaced += c;
  }
  return spaced;
}

// The position, from 1, of the first closing bracket that does not fit what is open.
int64_t WalkBrackets(const std::string& brackets, Hand& hand) {
  std::string open;
  for (size_t i = 0; i < brackets.size(); ++i) {
    const char c = brackets[i];
    const size_t opening = kOpening.find(c);
    if (opening != std::string_view::npos) {
      if (!hand.Slips()) open += c;
    } else {
      const bool fits = !open.empty() && kOpening.find(open.back()) == kClosing.find(c);
      if (fits == hand.Slips()) {
        hand.Write(fmt::format("{} does not fit", c), "does not fit");
        return static_cast<int64_t>(i) + 1;
      }
      if (!open.empty() && !hand.Slips()) open.pop_back();
    }
    std::string shown = open.empty() ? "none" : Spaced(open);
    std::string line = fmt::format("{} open: {}", c, shown);
    hand.Write(std::move(line), std::move(shown));
  }
  return 0;
}

struct Edit {
  enum Kind { kReverse, kRotate, kSwap, kDropFirst, kDropLast, kAppend };
  Kind kind = kReverse;
  size_t a = 0, b = 0;  // positions from 0
  int64_t number = 0;
};

std::string InWords(const Edit& edit) {
  switch (edit.kind) {
    case Edit::kReverse:
      return "Reverse it.";
    case Edit::kRotate:
      return "Move the first to the end.";
    case Edit::kSwap:
      return fmt::format("Swap numbers {} and {}.", edit.a + 1, edit.b + 1);
    case Edit::kDropFirst:
      return "Drop the first.";
    case Edit::kDropLast:
      return "Drop the last.";
    case Edit::kAppend:
      break;
  }
  return fmt::format("Append {}.", edit.number);
}

// Works on any list: a wrong solution may have a shorter one than the edit was made for.
void Apply(const Edit& edit, List& list) {
  if (list.empty() && edit.kind != Edit::kAppend) return;
  switch (edit.kind) {
    case Edit::kReverse:
      std::reverse(list.begin(), list.end());
      break;
    case Edit::kRotate:
      std::rotate(list.begin(), list.begin() + 1, list.end());
      break;
    case Edit::kSwap:
      if (edit.a < list.size() && edit.b < list.size()) std::swap(list[edit.a], list[edit.b]);
      break;
    case Edit::kDropFirst:
      list.erase(list.begin());
      break;
    case Edit::kDropLast:
      list.pop_back();
      break;
    case Edit::kAppend:
      list.push_back(edit.number);
  }
}

Edit SomeEdit(Dice& dice, size_t size, size_t size_max) {
  Edit edit;
  edit.kind = static_cast<Edit::Kind>(dice.Between(0, 5));
  if ((edit.kind == Edit::kDropFirst || edit.kind == Edit::kDropLast) && size < 4) edit.kind = Edit::kAppend;
  if (edit.kind == Edit::kAppend && size >= size_max) edit.kind = Edit::kSwap;
  edit.a = Somewhere(dice, size);
  edit.b = (edit.a + 1 + Somewhere(dice, size - 1)) % size;
  edit.number = dice.Between(10, 99);
  return edit;
}

}  // namespace

Problem MakeBrackets(Dice& dice, int difficulty) {
  const int64_t length = 4 + 2 * difficulty;
  const int64_t wrong_at = dice.Between(2, length - 1);  // from 0
  std::string brackets;
  std::string open;
  for (int64_t i = 0; i < length; ++i) {
    const size_t kind = Somewhere(dice, 3);
    const bool opens = dice.Between(0, 99) < (open.size() > 4 ? 30 : 55);
    if (i == wrong_at) {
      const size_t fits = open.empty() ? 3 : kOpening.find(open.back());
      brackets += kClosing[fits == 3 ? kind : (fits + 1 + kind % 2) % 3];
    } else if (open.empty() || opens || i > wrong_at) {
      open += kOpening[kind];
      brackets += i > wrong_at && !opens ? kClosing[kind] : open.back();
    } else {
      brackets += kClosing[kOpening.find(open.back())];
      open.pop_back();
    }
  }
  Problem problem;
  problem.question = fmt::format("Brackets: {}. Counted from 1, which is the first closing bracket that does not fit?",
                                 Spaced(brackets));
  problem.plan = {
      fmt::format("Given: the brackets {}; asked: the place of the first that does not fit.", Spaced(brackets)),
      "Go from left to right and remember which brackets are open.",
      "Stop at a closing bracket that is not the partner of the last open one."};
  problem.work = [brackets](Hand& hand) { return WalkBrackets(brackets, hand); };
  return problem;
}

Problem MakeCounting(Dice& dice, int difficulty) {
  const size_t kinds = difficulty <= 3 ? 2 : difficulty <= 7 ? 3 : 4;
  const List worth = SomeNumbers(dice, kinds, 2, 9 + difficulty);
  std::string letters;
  for (int i = 0; i < 5 + 3 * difficulty; ++i) letters += static_cast<char>('a' + Somewhere(dice, kinds));
  std::vector<std::string> prices;
  for (size_t k = 0; k < kinds; ++k) prices.push_back(fmt::format("{} = {}", static_cast<char>('a' + k), worth[k]));
  Problem problem;
  problem.question = fmt::format("The letters {} have the worth {}. What are they worth together?", Spaced(letters),
                                 fmt::join(prices, ", "));
  problem.plan = {fmt::format("Given: the worth {}; asked: the worth of all letters.", fmt::join(prices, ", ")),
                  "Count each letter and multiply by its worth.", "Add up."};
  problem.work = [letters, worth](Hand& hand) {
    int64_t sum = 0;
    for (size_t k = 0; k < worth.size(); ++k) {
      const char letter = static_cast<char>('a' + k);
      const int64_t count = hand.Number(std::count(letters.begin(), letters.end(), letter));
      const int64_t price = hand.Number(worth[k]);
      const int64_t product = hand.Number(count * price);
      const int64_t before = sum;
      sum = hand.Number(before + product);
      hand.Write(fmt::format("{}: {} * {} = {}; {} + {} = ", letter, count, price, product, before, product), sum);
    }
    return sum;
  };
  return problem;
}

Problem MakeLists(Dice& dice, int difficulty) {
  const size_t size_max = 5 + static_cast<size_t>(difficulty) / 3;
  const List list = SomeNumbers(dice, 4 + static_cast<size_t>(difficulty) / 3, 10, 99);
  std::vector<Edit> edits;
  List now = list;
  for (int i = 0; i < difficulty; ++i) {
    edits.push_back(SomeEdit(dice, now.size(), size_max));
    Apply(edits.back(), now);
  }
  const size_t position = Somewhere(dice, now.size());
  Problem problem;
  problem.question = fmt::format("Take the list {}.", Shown(list));
  for (const Edit& edit : edits) problem.question += " " + InWords(edit);
  problem.question += fmt::format(" Which is number {}?", position + 1);
  problem.plan = {fmt::format("Given: the list {}; asked: number {} of the result.", Shown(list), position + 1),
                  "Carry out each change and write the list.", fmt::format("Read off number {}.", position + 1)};
  problem.work = [list, edits, position](Hand& hand) {
    List at = list;
    for (const Edit& edit : edits) {
      if (!hand.Slips()) Apply(edit, at);
      at = Copied(std::move(at), hand);
      hand.Write(Shown(at), Shown(at));
    }
    const size_t place = hand.Slips() ? position + 1 : position;
    const int64_t answer = at.empty() ? 0 : at[place % at.size()];
    hand.Write(fmt::format("number {} is ", position + 1), answer);
    return answer;
  };
  return problem;
}

Problem MakeMaximum(Dice& dice, int difficulty) {
  const int64_t most = difficulty <= 5 ? 9 + 2 * difficulty : 10 * difficulty;
  List list;
  for (int i = 0; i < 3 + difficulty; ++i) {
    int64_t value = dice.Between(-most, most);
    if (value == 0) value = 1;
    list.push_back(value);
  }
  int64_t& some = list[Somewhere(dice, list.size())];
  if (some < 0) some = -some;
  Problem problem;
  problem.question = fmt::format("What is the largest sum of a run of neighbours in {}?", Shown(list));
  problem.plan = {fmt::format("Given: {}; asked: the largest sum of neighbours.", Shown(list)),
                  "Keep the sum of the run that ends here; begin anew when it is below 0.", "Remember the best sum."};
  problem.work = [list](Hand& hand) {
    int64_t run = 0;
    int64_t best = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      const int64_t value = hand.Number(list[i]);
      const bool anew = (i == 0 || run < 0) != hand.Slips();
      const int64_t before = run;
      run = hand.Number(anew ? value : before + value);
      const bool better = (i == 0 || run > best) != hand.Slips();
      if (better) best = run;
      const std::string sum = anew ? fmt::format("{}", run)
                                   : fmt::format("{} {} {} = {}", before, value < 0 ? '-' : '+', std::abs(value), run);
      hand.Write(fmt::format("{}: run {}, best {}", value, sum, best), fmt::format("{}, best {}", run, best));
    }
    return best;
  };
  return problem;
}

Problem MakeSorting(Dice& dice, int difficulty) {
  const size_t size = 4 + static_cast<size_t>(difficulty);
  const List list = SomeNumbers(dice, size, difficulty <= 6 ? 10 : 100, difficulty <= 6 ? 99 : 999);
  const int64_t place = dice.Between(2, std::min<int64_t>(8, static_cast<int64_t>(size) - 1));
  Problem problem;
  problem.question = fmt::format("Sort {} from small to large. Which number comes at place {}?", Shown(list), place);
  problem.plan = {fmt::format("Given: {}; asked: place {} from below.", Shown(list), place),
                  fmt::format("Take the smallest out, {} times.", place), "The last one taken out is asked for."};
  problem.work = [list, place](Hand& hand) {
    List left = list;
    int64_t taken = 0;
    for (int64_t i = 0; i < place && !left.empty(); ++i) {
      auto least = std::min_element(left.begin(), left.end());
      if (hand.Slips()) least = left.begin() + static_cast<std::ptrdiff_t>(Somewhere(hand.dice(), left.size()));
      taken = *least;
      left.erase(least);
      if (i + 1 < place) left = Copied(std::move(left), hand);
      std::string line = i + 1 < place ? fmt::format("{}, left {}", taken, Shown(left)) : fmt::format("{}", taken);
      hand.Write(std::move(line), fmt::format("{}", taken));
    }
    return taken;
  };
  return problem;
}

}  // namespace conclave::benchmark
