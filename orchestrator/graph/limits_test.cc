// SPDX-License-Identifier: Apache-2.0
// Every limit of a graph at the limit and one above.
#include "orchestrator/graph/limits.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orchestrator/graph/compile.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Errors(const std::string& text) {
  RoleLibrary roles;
  EXPECT_OK(roles.AddDirectory(CONCLAVE_SOURCE_DIR "/graphs/roles"));
  return CompileGraphText("name: \"g\" input { name: \"question\" }\n" + text, "g.textproto", roles).errors;
}

constexpr std::string_view kDraft = "node { name: \"n0\" speak { role: \"solver\" members: \"m\" } }\n";

// Picks of picks, each of the one before.
std::string Chain(int nodes) {
  std::string text(kDraft);
  for (int i = 1; i < nodes; ++i) {
    text += fmt::format("node {{ name: \"n{}\" pick {{ of: \"n{}\" by: MAJORITY }} }}\n", i, i - 1);
  }
  return text;
}

TEST(Limits, Nodes) {
  EXPECT_THAT(Errors(Chain(kGraphNodesMax)), IsEmpty());
  EXPECT_THAT(Errors(Chain(kGraphNodesMax + 1)), Contains(HasSubstr("at most 256 nodes")));
}

// Loops inside loops, `depth` nodes deep in all.
std::string Nest(int depth) {
  std::string text(kDraft);
  std::string close;
  for (int i = 1; i < depth; ++i) {
    text += fmt::format("{} {{ name: \"n{}\" loop {{ over: \"n{}\" max_rounds: 1 ", i == 1 ? "node" : "body", i, i - 1);
    close += " } }";
  }
  return text + "body { name: \"deep\" pick { of: \"n0\" by: FIRST } }" + close;
}

TEST(Limits, Depth) {
  EXPECT_THAT(Errors(Nest(kGraphDepthMax)), IsEmpty());
  EXPECT_THAT(Errors(Nest(kGraphDepthMax + 1)), Contains(HasSubstr("nested 17 deep, at most 16")));
}

TEST(Limits, Rounds) {
  const auto loop = [](int rounds) {
    return fmt::format(
        "{}node {{ name: \"l\" loop {{ over: \"n0\" max_rounds: {} body {{ name: \"p\" pick {{ of: \"n0\" by: FIRST }} "
        "}} }} }}",
        kDraft, rounds);
  };
  EXPECT_THAT(Errors(loop(1)), IsEmpty());
  EXPECT_THAT(Errors(loop(kLoopRoundsMax)), IsEmpty());
  EXPECT_THAT(Errors(loop(kLoopRoundsMax + 1)), Contains(HasSubstr("max_rounds is 65; 1 to 64 allowed")));
  EXPECT_THAT(Errors(loop(0)), Contains("g.textproto:3: node \"l\": no bound; add max_rounds: 1 to 64"));
  EXPECT_THAT(Errors(loop(-1)), Contains(HasSubstr("max_rounds is -1")));
}

TEST(Limits, NodeRunsOfNestedLoops) {
  // 1 draft + 1 outer + 60 inner + 60 x rounds picks
  const auto nested = [](int rounds) {
    return fmt::format(
        "{}node {{ name: \"o\" loop {{ over: \"n0\" max_rounds: 60 body {{ name: \"i\" loop {{ over: \"n0\" "
        "max_rounds: 40 "
        "body {{ name: \"j\" loop {{ over: \"n0\" max_rounds: {} body {{ name: \"p\" pick {{ of: \"n0\" by: FIRST }} "
        "}} }} }} "
        "}} }} }} }}",
        kDraft, rounds);
  };
  // 1 + 1 + 60 + 60 x 40 + 60 x 40 x rounds
  EXPECT_THAT(Errors(nested(3)), IsEmpty());
  EXPECT_THAT(Errors(nested(4)), Contains(HasSubstr("run more than 10000 nodes")));
}

TEST(Limits, Samples) {
  const auto speak = [](int samples) {
    return fmt::format("node {{ name: \"a\" speak {{ role: \"solver\" members: \"m\" samples: {} }} }}", samples);
  };
  EXPECT_THAT(Errors(speak(kSamplesMax)), IsEmpty());
  EXPECT_THAT(Errors(speak(kSamplesMax + 1)), Contains(HasSubstr("samples is 65; 1 to 64 allowed")));
  EXPECT_THAT(Errors(speak(0)), Contains(HasSubstr("samples is 0")));
}

TEST(Limits, Inputs) {
  const auto inputs = [](int count) {
    std::string text(kDraft);
    for (int i = 1; i < count; ++i) text += fmt::format("input {{ name: \"i{}\" }} ", i);
    return text;
  };
  EXPECT_THAT(Errors(inputs(kGraphInputsMax)), IsEmpty());
  EXPECT_THAT(Errors(inputs(kGraphInputsMax + 1)), Contains(HasSubstr("33 inputs, at most 32")));
}

TEST(Limits, Sees) {
  const auto sees = [](int count) {
    std::string text = fmt::format("{}node {{ name: \"b\" speak {{ role: \"solver\" members: \"m\" ", kDraft);
    for (int i = 0; i < count; ++i) text += "sees { node: \"n0\" } ";
    return text + "} }";
  };
  EXPECT_THAT(Errors(sees(kSeesMax)), IsEmpty());
  EXPECT_THAT(Errors(sees(kSeesMax + 1)), Contains(HasSubstr("33 sees, at most 32")));
}

TEST(Limits, MemberNames) {
  const auto names = [](int count) {
    std::string text = "node { name: \"b\" speak { role: \"solver\" ";
    for (int i = 0; i < count; ++i) text += fmt::format("members: \"m{}\" ", i);
    return text + "} }";
  };
  EXPECT_THAT(Errors(names(kMemberNamesMax)), IsEmpty());
  EXPECT_THAT(Errors(names(kMemberNamesMax + 1)), Contains(HasSubstr("257 names of members, at most 256")));
}

TEST(Limits, Expressions) {
  const auto when = [](size_t bytes) {
    std::string expression = "round >= 0";
    expression.resize(bytes, ' ');
    return fmt::format("node {{ name: \"a\" when: \"{}\" speak {{ role: \"solver\" members: \"m\" }} }}", expression);
  };
  EXPECT_THAT(Errors(when(kExpressionBytesMax)), IsEmpty());
  EXPECT_THAT(Errors(when(kExpressionBytesMax + 1)), Contains(HasSubstr("4097 characters, at most 4096")));
}

TEST(Limits, WindowsOfComparisons) {
  const auto judge = [](int window) {
    return fmt::format(
        "{}node {{ name: \"s\" judge {{ role: \"selector\" members: \"m\" of: \"n0\" method: CHOICE window: {} }} }} "
        "node {{ name: \"p\" pick {{ of: \"n0\" by: BEST_OF_N weight: \"s.wins\" }} }}",
        kDraft, window);
  };
  EXPECT_THAT(Errors(judge(0)), IsEmpty());
  EXPECT_THAT(Errors(judge(2)), IsEmpty());
  EXPECT_THAT(Errors(judge(kWindowMax)), IsEmpty());
  EXPECT_THAT(Errors(judge(1)), Contains(HasSubstr("window is 1; 2 to 64, or 0 for all, allowed")));
  EXPECT_THAT(Errors(judge(kWindowMax + 1)), Contains(HasSubstr("window is 65")));
}

TEST(Limits, RoundsOfMemory) {
  const auto sees = [](int memory) {
    return fmt::format(
        "{}node {{ name: \"b\" speak {{ role: \"solver\" members: \"m\" sees {{ node: \"n0\" memory: {} "
        "}} }} }}",
        kDraft, memory);
  };
  EXPECT_THAT(Errors(sees(0)), IsEmpty());
  EXPECT_THAT(Errors(sees(kMemoryRoundsMax)), IsEmpty());
  EXPECT_THAT(Errors(sees(kMemoryRoundsMax + 1)), Contains(HasSubstr("memory 65; 0 (the latest round) to 64 allowed")));
  EXPECT_THAT(Errors(sees(-1)), Contains(HasSubstr("memory -1")));
}

TEST(Limits, Kept) {
  const auto pick = [](int keep) {
    return fmt::format("{}node {{ name: \"p\" pick {{ of: \"n0\" by: FIRST keep: {} }} }}", kDraft, keep);
  };
  EXPECT_THAT(Errors(pick(0)), IsEmpty());
  EXPECT_THAT(Errors(pick(kKeepMax)), IsEmpty());
  EXPECT_THAT(Errors(pick(kKeepMax + 1)), Contains(HasSubstr("keep is 1025; 1 to 1024 allowed")));
  EXPECT_THAT(Errors(pick(-1)), Contains(HasSubstr("keep is -1")));
}

TEST(Limits, FurtherNodesOfAPick) {
  const auto pick = [](int also) {
    std::string text;
    for (int i = 0; i <= also; ++i) {
      text += fmt::format("node {{ name: \"n{}\" speak {{ role: \"solver\" members: \"m\" }} }} ", i);
    }
    text += "node { name: \"p\" pick { of: \"n0\" by: FIRST ";
    for (int i = 1; i <= also; ++i) text += fmt::format("also: \"n{}\" ", i);
    return text + "} }";
  };
  EXPECT_THAT(Errors(pick(kAlsoMax)), IsEmpty());
  EXPECT_THAT(Errors(pick(kAlsoMax + 1)), Contains(HasSubstr("17 nodes in also, at most 16 allowed")));
}

TEST(Limits, Waves) {
  const auto stop = [](const std::string& rule, int wave) {
    return fmt::format(
        "node {{ name: \"a\" speak {{ role: \"solver\" members: \"m\" stop {{ rule: {} wave: {} }} }} }}", rule, wave);
  };
  EXPECT_THAT(Errors(stop("BETA", 1)), IsEmpty());
  EXPECT_THAT(Errors(stop("BETA", kWaveMax)), IsEmpty());
  EXPECT_THAT(Errors(stop("BETA", kWaveMax + 1)), Contains(HasSubstr("wave is 65; 1 to 64 allowed")));
  EXPECT_THAT(Errors(stop("WINDOW", 2)), IsEmpty());
  EXPECT_THAT(Errors(stop("WINDOW", 1)), Contains(HasSubstr("wave is 1; 2 to 64 allowed")));
  const auto strict = [](int wave) {
    return fmt::format(
        "{}node {{ name: \"j\" judge {{ role: \"verifier\" members: \"m\" of: \"n0\" strict: true wave: {} }} }} "
        "node {{ name: \"p\" pick {{ of: \"n0\" by: BEST_OF_N weight: \"j.accepts\" }} }}",
        kDraft, wave);
  };
  EXPECT_THAT(Errors(strict(kWaveMax)), IsEmpty());
  EXPECT_THAT(Errors(strict(kWaveMax + 1)), Contains(HasSubstr("wave is 65")));
}

TEST(Limits, Patience) {
  for (const char* what : {"quorum: 1 patience", "hedge { when_done: 1 after"}) {
    const auto speak = [what](int64_t seconds, int nanos) {
      return fmt::format(
          "node {{ name: \"a\" speak {{ role: \"solver\" members: \"m\" {} {{ seconds: {} nanos: {} }} {} }} }}", what,
          seconds, nanos, what[0] == 'h' ? "}" : "");
    };
    EXPECT_THAT(Errors(speak(kPatienceSecondsMax, 0)), IsEmpty());
    EXPECT_THAT(Errors(speak(kPatienceSecondsMax, 1)), Contains(HasSubstr("is 3600 s and 1 ns")));
    EXPECT_THAT(Errors(speak(0, 1)), IsEmpty());
  }
}

TEST(Limits, ConfidenceWindows) {
  const auto speak = [](int window) {
    return fmt::format("node {{ name: \"a\" speak {{ role: \"solver\" members: \"m\" confidence_window: {} }} }}",
                       window);
  };
  EXPECT_THAT(Errors(speak(kConfidenceWindowMax)), IsEmpty());
  EXPECT_THAT(Errors(speak(kConfidenceWindowMax + 1)), Contains(HasSubstr("confidence_window is 1000001")));
  EXPECT_THAT(Errors(speak(-1)), Contains(HasSubstr("confidence_window is -1")));
}

}  // namespace
}  // namespace conclave::orchestrator
