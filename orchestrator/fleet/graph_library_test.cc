// SPDX-License-Identifier: Apache-2.0
// Which graph a name means, and which one a graph calls.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "orchestrator/fleet/run_builder.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class GraphLibraryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(shipped_.Path("roles"));
    Write(shipped_.Path("roles/say.textproto"), "name: \"say\" task: \"{{ question }}\" answer {}");
    Write(shipped_.Path("vote.textproto"), Vote("shipped/*"));
    Write(shipped_.Path("around.textproto"), Around("around", "vote"));
    auto library = GraphLibrary::Open(shipped_.path());
    ASSERT_OK(library.status());
    library_ = *std::move(library);
  }
  static void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  static std::string Vote(const std::string& members) {
    return "name: \"vote\" input { name: \"question\" } node { name: \"draft\" speak { role: \"say\" members: \"" +
           members + "\" } }";
  }
  static std::string Around(const std::string& name, const std::string& called) {
    return "name: \"" + name + "\" input { name: \"question\" } node { name: \"c\" call { graph: \"" + called +
           "\" } }";
  }

  conclave::testing::TempDir shipped_, own_;
  std::unique_ptr<GraphLibrary> library_;
};

TEST_F(GraphLibraryTest, AShippedGraphCallsShippedGraphs) {
  const auto graph = library_->Find("around");
  ASSERT_OK(graph.status());
  EXPECT_THAT((*graph)->MemberNames(), ElementsAre("shipped/*"));
}

TEST_F(GraphLibraryTest, AFileCallsWhatIsBesideItFirst) {
  Write(own_.Path("mine.textproto"), Around("mine", "vote"));
  EXPECT_THAT((*library_->Find(own_.Path("mine.textproto")))->MemberNames(), ElementsAre("shipped/*"));
  Write(own_.Path("vote.textproto"), Vote("own/*"));
  Write(own_.Path("again.textproto"), Around("again", "vote"));
  EXPECT_THAT((*library_->Find(own_.Path("again.textproto")))->MemberNames(), ElementsAre("own/*"));
  EXPECT_THAT((*library_->Find("around"))->MemberNames(), ElementsAre("shipped/*"));
}

TEST_F(GraphLibraryTest, AMessageCallsShippedGraphsAndNoFiles) {
  deliberation::v1::Graph message;
  message.set_name("message");
  message.add_input()->set_name("question");
  message.add_node()->set_name("c");
  message.mutable_node(0)->mutable_call()->set_graph("vote");
  EXPECT_OK(library_->Compile(message).status());
  message.mutable_node(0)->mutable_call()->set_graph("../vote");
  EXPECT_THAT(library_->Compile(message).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a name has 1 to 64 characters")));
}

}  // namespace
}  // namespace conclave::orchestrator
