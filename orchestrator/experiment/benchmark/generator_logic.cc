// SPDX-License-Identifier: Apache-2.0
// String edits, and knights and knaves.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "orchestrator/experiment/benchmark/generator_kinds.h"

namespace conclave::benchmark {
namespace {

constexpr const char* kWords[] = {"lantern", "harbour", "pebble",  "orchard", "whistle", "compass", "meadow",
                                  "granite", "velvet",  "thunder", "copper",  "saffron", "pelican", "bramble",
                                  "cascade", "ember",   "quarry",  "tundra",  "willow",  "zephyr",  "mosaic"};
constexpr const char* kIslanders[] = {"Ada", "Bruno", "Cleo", "Dov", "Edda", "Finn", "Gita"};

// A letter of the text.
char SomeLetter(Dice& dice, const std::string& text) {
  return text[static_cast<size_t>(dice.Between(0, static_cast<int64_t>(text.size()) - 1))];
}

std::string EditOnce(Dice& dice, std::string& text) {
  int64_t edit = dice.Between(0, 5);
  if (edit == 1 && text.size() > 60) edit = 0;
  const char letter = SomeLetter(dice, text);
  const size_t same = static_cast<size_t>(std::count(text.begin(), text.end(), letter));
  if (edit == 2 && (text.size() - same < 3)) edit = 0;
  if (edit == 3 && text.size() < 5) edit = 4;
  const std::string word = dice.Pick(kWords);
  const char other = static_cast<char>('a' + dice.Between(0, 25));
  switch (edit) {
    case 0:
      std::reverse(text.begin(), text.end());
      return "Reverse it.";
    case 1:
      text += text;
      return "Write it twice in a row.";
    case 2:
      std::erase(text, letter);
      return fmt::format("Remove every letter \"{}\".", letter);
    case 3:
      text = text.substr(1, text.size() - 2);
      return "Drop its first and its last letter.";
    case 4:
      text += word;
      return fmt::format("Append the word \"{}\".", word);
    default:
      std::replace(text.begin(), text.end(), letter, other);
      return fmt::format("Replace every letter \"{}\" by \"{}\".", letter, other);
  }
}

// What an islander says: about whom, and what.
struct Statement {
  enum Form { kIsKnave, kIsKnight, kSameKind, kDifferentKind, kAtLeastKnights };
  Form form = kIsKnave;
  size_t a = 0;
  size_t b = 0;
  int least = 0;
};

bool Holds(const Statement& s, uint32_t knights) {
  const bool a = (knights >> s.a & 1) != 0;
  const bool b = (knights >> s.b & 1) != 0;
  switch (s.form) {
    case Statement::kIsKnave:
      return !a;
    case Statement::kIsKnight:
      return a;
    case Statement::kSameKind:
      return a == b;
    case Statement::kDifferentKind:
      return a != b;
    case Statement::kAtLeastKnights:
      return std::popcount(knights) >= s.least;
  }
  return false;
}

std::string Say(const Statement& s) {
  switch (s.form) {
    case Statement::kIsKnave:
      return fmt::format("{} is a knave", kIslanders[s.a]);
    case Statement::kIsKnight:
      return fmt::format("{} is a knight", kIslanders[s.a]);
    case Statement::kSameKind:
      return fmt::format("{} and {} are of the same kind", kIslanders[s.a], kIslanders[s.b]);
    case Statement::kDifferentKind:
      return fmt::format("{} and {} are of different kinds", kIslanders[s.a], kIslanders[s.b]);
    case Statement::kAtLeastKnights:
      return fmt::format("at least {} of us are knights", s.least);
  }
  return "";
}

// A statement by `speaker` that is true exactly if the speaker is a knight in `truth`.
Statement StatementFitting(Dice& dice, size_t speaker, size_t people, uint32_t truth) {
  while (true) {  // each draw fits with a fair chance: every form has an opposite
    Statement s;
    s.form = static_cast<Statement::Form>(dice.Between(0, 4));
    const int64_t others = static_cast<int64_t>(people) - 1;
    s.a = (speaker + static_cast<size_t>(dice.Between(1, others))) % people;
    s.b = (s.a + static_cast<size_t>(dice.Between(1, others))) % people;
    s.least = static_cast<int>(dice.Between(1, static_cast<int64_t>(people)));
    if (Holds(s, truth) == ((truth >> speaker & 1) != 0)) return s;
  }
}

std::vector<uint32_t> ConsistentWorlds(const std::vector<Statement>& said, size_t people) {
  std::vector<uint32_t> worlds;
  for (uint32_t world = 0; world < (1u << people); ++world) {
    bool consistent = true;
    for (size_t i = 0; i < said.size() && consistent; ++i) {
      consistent = Holds(said[i], world) == ((world >> (i % people) & 1) != 0);
    }
    if (consistent) worlds.push_back(world);
  }
  return worlds;
}

}  // namespace

Puzzle MakeString(Dice& dice, int difficulty) {
  std::string text = dice.Pick(kWords);
  Puzzle puzzle;
  puzzle.question = fmt::format("Take the word \"{}\".", text);
  puzzle.solution = text;
  for (int i = 0; i < difficulty; ++i) {
    puzzle.question += " " + EditOnce(dice, text);
    puzzle.solution += "\n" + text;
  }
  const char letter = SomeLetter(dice, text);
  switch (dice.Between(0, 2)) {
    case 0:
      puzzle.question += " How many letters does the result have?";
      puzzle.answer = static_cast<int64_t>(text.size());
      break;
    case 1:
      puzzle.question += fmt::format(" How many times does the letter \"{}\" occur in the result?", letter);
      puzzle.answer = std::count(text.begin(), text.end(), letter);
      break;
    default:
      puzzle.question +=
          fmt::format(" Counting from 1, at which position of the result does the letter \"{}\" occur first?", letter);
      puzzle.answer = static_cast<int64_t>(text.find(letter)) + 1;
  }
  puzzle.solution += fmt::format("\nThe count asked for is {}.", puzzle.answer);
  return puzzle;
}

Puzzle MakeKnights(Dice& dice, int difficulty) {
  const size_t people = 2 + static_cast<size_t>(difficulty) / 2;
  const uint32_t truth = static_cast<uint32_t>(dice.Between(0, (int64_t{1} << people) - 1));
  // One statement each, then more until only one world is left: the truth always is.
  std::vector<Statement> said;
  for (size_t i = 0; i < people || ConsistentWorlds(said, people).size() > 1; ++i) {
    said.push_back(StatementFitting(dice, i % people, people, truth));
  }
  Puzzle puzzle;
  puzzle.question = fmt::format(
      "On an island, knights always tell the truth and knaves always lie. You meet {} islanders, each a knight or a "
      "knave.",
      people);
  for (size_t i = 0; i < said.size(); ++i) {
    puzzle.question += fmt::format(" {} says: \"{}.\"", kIslanders[i % people], Say(said[i]));
  }
  puzzle.question += " How many of them are knights?";
  for (size_t i = 0; i < people; ++i) {
    puzzle.solution +=
        fmt::format("{}{} is a {}.", i == 0 ? "" : " ", kIslanders[i], (truth >> i & 1) != 0 ? "knight" : "knave");
  }
  puzzle.solution += "\nEvery statement agrees with this, and with no other reading.";
  puzzle.answer = std::popcount(truth);
  return puzzle;
}

}  // namespace conclave::benchmark
