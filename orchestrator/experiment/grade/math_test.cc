// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "orchestrator/experiment/grade/grader.h"
#include "orchestrator/experiment/grade/math/equivalence.h"
#include "orchestrator/experiment/grade/math/expression.h"
#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string Repeat(std::string_view what, size_t times) {
  std::string out;
  for (size_t k = 0; k < times; ++k) out += what;
  return out;
}

// What is said (left) against what is right. Each pair is equal, or not, by elementary mathematics.
TEST(MathEquivalenceTest, Equal) {
  const Pairs pairs = {
      {"0.5", "1/2"},
      {"\\frac12", "0.5"},
      {"-\\dfrac{3}{6}", "\\frac{-1}{2}"},
      {"1\\frac{4}{5}", "9/5"},
      {"3 1/2", "3.5"},
      {"1{,}234{,}567", "1234567"},
      {"10,\\!080", "10080"},
      {"58,500", "58500"},
      {"0.1\\overline{6}", "\\frac16"},
      {"1.2e3", "1200"},
      {"2^{10}", "1024"},
      {"\\sqrt{8}", "2\\sqrt2"},
      {"\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"},
      {"\\sqrt{5+2\\sqrt{6}}", "\\sqrt2+\\sqrt3"},  // denesting
      {"\\sqrt[3]{-8}", "-2"},
      {"\\sqrt[3]{7+5\\sqrt2}", "1+\\sqrt{2}"},
      {"\\sqrt{-4}", "2i"},
      {"(1+2i)(3-i)", "5+5i"},
      {"e^{i\\pi}", "-1"},
      {"\\log_2 8", "3"},
      {"\\ln(ab)", "\\ln a+\\ln b"},
      {"\\sin^2 x + \\cos^2 x", "1"},
      {"\\sin 30^\\circ", "\\frac12"},
      {"\\cot x", "\\frac{\\cos x}{\\sin x}"},
      {"5!", "120"},
      {"\\binom{n}{2}", "\\frac{n(n-1)}{2}"},
      {"\\binom{10}{3}", "120"},
      {"(x+1)^3", "x^3+3x^2+3x+1"},
      {"\\frac{x^2-1}{x-1}", "x+1"},
      {"\\sqrt{x^2}", "|x|"},
      {"x^{2/3}", "\\sqrt[3]{x^2}"},
      {"90", "90^\\circ"},
      {"90 degrees", "90^\\circ"},
      {"\\frac{\\pi}{2}", "90^\\circ"},
      {"15", "15\\mbox{ cm}^2"},
      {"15 centimeters", "15\\text{ cm}"},
      {"\\$18.90", "18.9"},
      {"25\\%", "0.25"},
      {"25", "25\\%"},
      {"x = 5", "5"},
      {"5", "x=5"},
      {"x=2+3=5", "5"},
      {"\\{1,2\\}", "2,1"},
      {"1 \\text{ and } 2", "\\{2, 1\\}"},
      {"3\\pm 2\\sqrt2", "3-2\\sqrt{2}, 3+2\\sqrt{2}"},
      {"x=1 \\text{ or } x=-2", "-2, 1"},
      {"(1,2),(3,4)", "(3,4),(1,2)"},
      {"(x,y)=(1,2)", "(1,2)"},
      {"\\left(\\tfrac12, \\infty\\right)", "(0.5,\\infty)"},
      {"[1,2)\\cup(3,4]", "(3,4]\\cup[1,2)"},
      {"(2,\\infty)", "x > 2"},
      {"5 \\le x", "x\\geq 5"},
      {"-2x<-4", "x>2"},
      {"(-3,3)", "|x|<3"},
      {"x \\in [-2,7]", "[-2,7]"},
      {"\\begin{bmatrix}1&0.5\\\\0&1\\end{bmatrix}", "\\begin{pmatrix} 1 & 1/2 \\\\ 0 & 1 \\end{pmatrix}"},
      {"\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}\\begin{pmatrix}0\\\\1\\end{pmatrix}",
       "\\begin{pmatrix}2\\\\4\\end{pmatrix}"},
      {"2x+4y=6", "x+2y-3=0"},
      {"y=2x+3", "2x-y+3=0"},
      {"3:4", "\\frac34"},
      {"12_{7}", "12_7"},
      {"\\text{Evelyn}", "evelyn"},
      {"(C)", "\\text{(C)}"},
      {"\\text{the ellipse}", "ellipse"},
      {"1/2004!", "\\frac{1}{2004!}"},
      {"0.3333333", "1/3"},
      {"2,74", "2.74"},
      {"x² − 1", "(x-1)(x+1)"},
      {"\\sum_{k=1}^{n} a_k b_k", "\\sum_{k=1}^n b_k a_k"},
  };
  for (const auto& [said, right] : pairs) {
    EXPECT_TRUE(math::Equivalent(said, right)) << said << "   against   " << right;
  }
}

TEST(MathEquivalenceTest, NotEqual) {
  const Pairs pairs = {
      {"276001", "276000"},
      {"100000000001000000000", "100000000000000000000"},
      {"0.333", "1/3"},  // exactly, or to six digits
      {"0.33334", "1/3"},
      {"3.14", "\\pi"},
      {"\\sqrt{3}", "1.73"},
      {"262537412640768744", "e^{\\pi\\sqrt{163}}"},  // differ by 7.5e-13 (Ramanujan's constant)
      {"|x|", "x"},
      {"x+1", "x-1"},
      {"2x", "2y"},
      {"(1,2)", "(2,1)"},
      {"(1,2)", "\\{1,2\\}"},
      {"[1,2)", "(1,2]"},
      {"(0,9)", "[0,9)"},
      {"x > 2", "(2,\\infty)"},  // an interval was asked for
      {"x > 2", "x < 2"},
      {"y > 2", "x > 2"},
      {"x \\ge 2", "x > 2"},
      {"1,2", "1,2,3"},
      {"1,2,2", "1,1,2"},
      {"p=5,q=2;p=7,q=3", "p=5,q=3;p=7,q=2"},
      {"5 cm", "5 m\\text{eters}"},
      {"5\\text{ meters}", "5\\text{ cm}"},
      {"204_5", "204_6"},
      {"12:00", "1:00"},
      {"\\text{even}", "\\text{odd}"},
      {"x=3", "y=3"},
      {"a^2+b=0", "0"},
      {"2x+z=1", "1"},
      {"x+2y=3", "x+2y=4"},
      {"\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"},
      {"\\infty", "-\\infty"},
      {"1 2", "12"},
      {"\\frac{1}{0}", "\\frac{2}{0}"},
      {"\\ln x", "\\log x"},
      {"x^{100}", "x^{101}"},
      {"2^{2025}", "3^{2025}"},
  };
  for (const auto& [said, right] : pairs) {
    EXPECT_FALSE(math::Equivalent(said, right)) << said << "   against   " << right;
  }
}

TEST(MathEquivalenceTest, ApproximationsAreTold) {
  bool exactly = false;
  EXPECT_TRUE(math::Equivalent("0.25", "1/4", &exactly));
  EXPECT_TRUE(exactly);
  EXPECT_TRUE(math::Equivalent("0.333333", "1/3", &exactly));
  EXPECT_FALSE(exactly);
  EXPECT_FALSE(math::Equivalent("0.33333", "1/3", &exactly));  // one digit less than kApproximateDigitsMin
}

TEST(MathEquivalenceTest, NormalForms) {
  EXPECT_EQ(math::NormalForm("\\frac{2}{4}"), "1/2");
  EXPECT_EQ(math::NormalForm("x=007"), "7");
  EXPECT_EQ(math::NormalForm("2, 1"), "{1, 2}");
  EXPECT_EQ(math::NormalForm("x - x"), "0");
  EXPECT_EQ(math::NormalForm("(0,\\infty)"), "(0, inf)");
  EXPECT_EQ(math::NormalForm("\\sqrt2"), "1.41421356237309504880168872421");  // OEIS A002193
  EXPECT_EQ(math::NormalForm("6-5i"), "6-5*i");
  EXPECT_EQ(math::NormalForm("(x+1)^2"), math::NormalForm("x^2+2x+1"));
  EXPECT_NE(math::NormalForm("(x+1)^2"), math::NormalForm("x^2+2x+2"));
  EXPECT_EQ(math::NormalForm(""), "");
}

// One beyond each limit is compared as text, and never crashes.
TEST(MathEquivalenceTest, Limits) {
  const auto nested = [](size_t depth) { return Repeat("(", depth) + "1" + Repeat(")", depth); };
  EXPECT_TRUE(math::ReadsAsAnswer(nested(math::kNestingMax)));
  EXPECT_FALSE(math::ReadsAsAnswer(nested(math::kNestingMax + 1)));
  EXPECT_TRUE(math::ReadsAsAnswer(std::string(math::kDigitsMax, '7')));
  EXPECT_FALSE(math::ReadsAsAnswer(std::string(math::kDigitsMax + 1, '7')));
  EXPECT_TRUE(math::ReadsAsAnswer("1" + std::string(math::kAnswerBytesMax - 1, ' ')));
  EXPECT_FALSE(math::ReadsAsAnswer("1" + std::string(math::kAnswerBytesMax, ' ')));
  EXPECT_TRUE(math::ReadsAsAnswer(Repeat("1 *", math::kTokensMax / 2 - 1) + "1"));
  EXPECT_FALSE(math::ReadsAsAnswer(Repeat("1*", math::kTokensMax / 2) + "1"));
  EXPECT_TRUE(math::Equivalent(nested(200), nested(200)));  // as text
}

TEST(MathEquivalenceTest, BoundedWork) {
  const std::vector<std::string> hostile = {"9^{9^{9^{9^9}}}",
                                            "10^{10^{10}}",
                                            "((((9!)!)!)!)!",
                                            "\\binom{10^9}{10^8}",
                                            "\\sin(10^{100000})",
                                            "\\exp(\\exp(\\exp(\\exp(9))))",
                                            "i^{i^{i^{i^i}}}",
                                            Repeat("\\sqrt{", 30) + "2" + Repeat("}", 30),
                                            Repeat("2^", 500) + "2",
                                            Repeat("\\sin", 900) + " x",
                                            Repeat("x+", 1900) + "x",
                                            Repeat("\\pm", 500) + "1",
                                            Repeat("\\frac{1}{", 50) + "x" + Repeat("}", 50),
                                            Repeat("(x+", 50) + "1" + Repeat(")^{99}", 50),
                                            Repeat("1,", 1900) + "1",
                                            Repeat("\\{", 60) + "1" + Repeat("\\}", 60),
                                            Repeat("|", 3000),
                                            "\\begin{pmatrix}" + Repeat("1&", 500) + "1\\end{pmatrix}" +
                                                "\\begin{pmatrix}" + Repeat("1\\\\", 500) + "1\\end{pmatrix}"};
  for (const std::string& text : hostile) {
    (void)math::NormalForm(text);
    (void)math::Equivalent(text, text + " + 1");
    (void)math::Equivalent("1 + " + text, text);
  }
  // Lists that differ only in their last items: not every pair is worked out.
  std::string a;
  std::string b;
  for (int k = 0; k < 300; ++k) {
    a += "\\sqrt{" + std::to_string(k + 2) + "},";
    b = "\\sqrt{" + std::to_string(k + 2) + "}," + b;
  }
  EXPECT_FALSE(math::Equivalent(a + "1", b + "2"));
}

class MathGraderTest : public ::testing::Test {
 protected:
  Grade Text(std::string_view text, std::string_view gold) { return grader_->GradeText(text, {gold, {}}); }
  std::unique_ptr<const Grader> grader_ = *MakeGrader("math");
};

TEST_F(MathGraderTest, FindsTheAnswer) {
  struct Case {
    std::string text;
    std::string_view gold;
    std::string_view rule;
  };
  const std::vector<Case> cases = {
      {"Thus $x = \\boxed{\\frac{1}{2}}$.", "0.5", "math/boxed"},
      {"First \\boxed{3}. No: \\boxed{4}", "4", "math/boxed"},
      {"\\boxed{1} and \\boxed{2}", "1,2", "math/boxes"},
      {"<think>\\boxed{7}</think> It is \\boxed{8}", "8", "math/boxed"},
      {"\\boxed{200} for now. The final answer is $10,455$. I hope it is correct.", "10455", "math/final_answer"},
      {"The final answer is $(0, 1)$. I hope it is correct.", "(0,1)", "math/answer_is"},
      {"Final Answer: The largest $n$ is 34.", "34", "math/answer_is"},
      {"the answer is 42 because geometry proves it", "42", "math/answer_is"},
      {"The answer is $x=1$ or $x=2$", "1,2", "math/answer_is"},
      {"some work\n#### 17", "17", "math/hashes"},
      {"{\"reasoning\": \"..\", \"answer\": \"1/2\"}", "0.5", "math/answer_field"},
      {"First compute 6*7.\n42", "42", "math/last_line"},
      {"so we have 3 + 4 = 7 birds", "7", "math/last"},
      {"We pay $5 and then $7 more, in total $12.", "12", "math/last"},
      {"It follows that $x \\leq 5$", "x \\le 5", "math/last"},
      {"It's not A, therefore I think it's B", "B", "math/last"},
      {"\\frac{3}{4}", "0.75", "math/whole"},
      {"Therefore the answer is east", "\\text{east}", "math/answer_is"},
  };
  for (const Case& c : cases) {
    const Grade grade = Text(c.text, c.gold);
    EXPECT_EQ(grade.outcome, Outcome::kCorrect) << c.text << " gave " << grade.answer;
    EXPECT_EQ(grade.rule, c.rule) << c.text;
  }
}

TEST_F(MathGraderTest, StrictAsksForTheBox) {
  EXPECT_EQ(Text("\\boxed{5}", "5").strict, Outcome::kCorrect);
  EXPECT_EQ(Text("The answer is 5.", "5").strict, Outcome::kNoAnswer);
  EXPECT_EQ(Text("\\boxed{0.3333333}", "1/3").lenient, Outcome::kCorrect);
  EXPECT_EQ(Text("\\boxed{0.3333333}", "1/3").strict, Outcome::kWrong);
}

TEST_F(MathGraderTest, Outcomes) {
  EXPECT_EQ(Text("I do not know", "5").outcome, Outcome::kNoAnswer);
  EXPECT_EQ(Text("", "5").outcome, Outcome::kNoAnswer);
  EXPECT_EQ(Text("\\boxed{5}", "").outcome, Outcome::kGraderError);
  EXPECT_EQ(grader_->GradeText("we now find that", {"5", {}}, Finish::kCutAtLength).outcome, Outcome::kTruncated);
  EXPECT_EQ(grader_->GradeAnswer("10/2", {"5", {}}).outcome, Outcome::kCorrect);
  EXPECT_TRUE(grader_->Equivalent("1/2", "0.50"));
  // A worked solution may be the gold.
  EXPECT_EQ(Text("$\\boxed{-6}$", "Substituting $x = 3$ gives $12 = -2A$, so $A = \\boxed{-6}.$").outcome,
            Outcome::kCorrect);
}

// A megabyte of what is worst for each rule: done in bounded time, here with no clock but the test's own limit.
TEST_F(MathGraderTest, HostileMegabyte) {
  constexpr size_t kBytes = size_t{1} << 20;
  for (std::string_view unit :
       {"\\boxed{", "boxed{}", "$",   "$$", "$1$ and ", "(",    "{", "\\frac{",     "answer is ", "9", "1,", "A ",
        "not A ",   "\\(",     "\\)", "x",  "\\sqrt{",  "####", "|", "\\boxed{1} ", "\n",         "é", "\\"}) {
    const std::string text = Repeat(unit, kBytes / unit.size());
    (void)Text(text, "5");
    (void)Text(text + " The final answer is $5$.", "5");
    (void)Text("\\boxed{5}", text);
  }
}

}  // namespace
}  // namespace conclave::grade
