// SPDX-License-Identifier: Apache-2.0
// What the page loads and reads. How it looks is for a browser (tests/integration/browser_page_test.py).
#include "orchestrator/door/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "common/status.h"
#include "orchestrator/door/door_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class PageTest : public DoorTest {
 protected:
  // Runs one deliberation and returns its id.
  std::string RunOne(const std::string& graph = "member_vote") {
    Exchange(PostText(kChat, Ask("deliberation/" + graph)));
    return executor_->ListRuns(0, 1)->at(0).run.run_id();
  }
  Json Get(const std::string& path) const { return Json::parse(BodyOf(Exchange(GetText(path))), nullptr, false); }
};

TEST_F(PageTest, FilesAreServedWithAPolicyThatRunsNothingElse) {
  Serve(Fixed);
  for (const char* path : {"/", "/page.js", "/page.css"}) {
    const std::string answer = Exchange(GetText(path));
    EXPECT_EQ(StatusOf(answer), 200) << path;
    EXPECT_THAT(answer, AllOf(HasSubstr("Content-Security-Policy: default-src 'none'; script-src 'self'"),
                              HasSubstr("X-Content-Type-Options: nosniff"), Not(HasSubstr("unsafe-inline"))));
    EXPECT_THAT(BodyOf(answer), Not(HasSubstr("http://fonts"))) << "works offline";
  }
  EXPECT_THAT(BodyOf(Exchange(GetText("/"))), HasSubstr("<script src=\"/page.js\" defer></script>"));
  // Text reaches the page as text: nothing writes markup.
  const std::string script = BodyOf(Exchange(GetText("/page.js")));
  for (const char* way : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("}) {
    EXPECT_THAT(script, Not(HasSubstr(way)));
  }
}

TEST_F(PageTest, RunsAreListedNewestFirst) {
  Serve(Fixed);
  const std::string first = RunOne(), second = RunOne("single");
  const Json page = Get("/api/runs");
  ASSERT_EQ(page["runs"].size(), 2u);
  EXPECT_EQ(page["next"], 0);
  EXPECT_EQ(page["runs"][0]["run_id"], second);
  EXPECT_EQ(page["runs"][1], Json({{"run_id", first},
                                   {"state", "RUN_STATE_SUCCEEDED"},
                                   {"graph", "member_vote"},
                                   {"question", "6 x 7?"},
                                   {"answer", "42"},
                                   {"calls", 2},
                                   {"tokens", 14}}));
  for (int64_t i = 2; i < kRunsPerPage + 1; ++i) RunOne("single");
  const Json full = Get("/api/runs");
  EXPECT_EQ(full["runs"].size(), static_cast<size_t>(kRunsPerPage));
  const Json rest = Get("/api/runs?before=" + full["next"].dump());
  ASSERT_EQ(rest["runs"].size(), 1u);
  EXPECT_EQ(rest["runs"][0]["run_id"], first);
  EXPECT_EQ(StatusOf(Exchange(GetText("/api/runs?before=x"))), 400);
}

TEST_F(PageTest, EventsStreamToTheEndAndWhileARunGoesOn) {
  Serve([](const CallRequest& call) { return call.member == "b" ? Says("#### 42", kNever) : Says("#### 42"); });
  RawConnection asking(port_);
  asking.Send(PostText(kChat, Ask("deliberation/member_vote")));
  backend_->AwaitStarted(2);
  const std::string run = executor_->ListRuns(0, 1)->at(0).run.run_id();
  RawConnection watching(port_);
  watching.Send(GetText("/api/events?run=" + run));
  std::string text;
  while (text.find("call_finished") == text.npos) text += watching.Read("\n\n\r\n");
  EXPECT_THAT(text, Not(HasSubstr("run_finished")));
  backend_->Advance(kNever);
  text += watching.Read();
  const auto events = Events(BodyOf(text));
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(Json::parse(events[i])["sequence_number"], std::to_string(i + 1));
  }
  EXPECT_EQ(Json::parse(events.back())["run_finished"]["answer"], "42");
  const auto absent = Events(BodyOf(Exchange(GetText("/api/events?run=runs/absent"))));
  ASSERT_EQ(absent.size(), 1u);
  EXPECT_TRUE(Json::parse(absent[0]).contains("error"));
}

TEST_F(PageTest, AWatcherThatGoesLeavesNothingBehind) {
  Serve([](const CallRequest&) { return Says("#### 42", kNever); });
  RawConnection asking(port_);
  asking.Send(PostText(kChat, Ask("deliberation/single")));
  backend_->AwaitStarted(1);
  const std::string run = executor_->ListRuns(0, 1)->at(0).run.run_id();
  for (int i = 0; i < 20; ++i) {
    RawConnection watching(port_);
    watching.Send(GetText("/api/events?run=" + run));
    watching.Read("\n\n\r\n");
  }
  backend_->Advance(kNever);
  EXPECT_EQ(StatusOf(asking.Read()), 200);
}

TEST_F(PageTest, WatchersDoNotHoldUpAStop) {
  Serve([](const CallRequest&) { return Says("#### 42", kNever); });
  RawConnection asking(port_);
  asking.Send(PostText(kChat, Ask("deliberation/single")));
  backend_->AwaitStarted(1);
  const std::string run = executor_->ListRuns(0, 1)->at(0).run.run_id();
  RawConnection watching(port_);
  watching.Send(GetText("/api/events?run=" + run));
  watching.Read("\n\n\r\n");
  std::thread drain([this] { door_->Drain(kNever); });
  watching.Read();  // ends, although the run does not
  backend_->Advance(kNever);
  EXPECT_EQ(StatusOf(asking.Read()), 200);
  drain.join();
}

TEST_F(PageTest, GraphsAreDrawnByNameAndNotByPath) {
  Serve(Fixed);
  EXPECT_THAT(BodyOf(Exchange(GetText("/api/graph?name=council"))),
              AllOf(HasSubstr("<rect data-node=\"plan\""), HasSubstr("data-from=\"plan\" data-to=\"draft\"")));
  EXPECT_EQ(StatusOf(Exchange(GetText("/api/graph?name=absent"))), 404);
  for (const char* name : {"..%2Fgraphs%2Fcouncil", "%2Fetc%2Fpasswd", "council.textproto", ""}) {
    EXPECT_EQ(StatusOf(Exchange(GetText(std::string("/api/graph?name=") + name))), 400) << name;
  }
}

TEST_F(PageTest, AnswersAreGradedAsTheGraphCompares) {
  Serve([](const CallRequest& call) { return Says(call.member == "b" ? "#### 42.0" : "#### 41"); });
  const std::string run = RunOne();
  const Json outcomes = Get("/api/grades?run=" + run + "&gold=42")["outcomes"];
  std::vector<std::string> words;
  for (const auto& [number, outcome] : outcomes.items()) words.push_back(outcome);
  EXPECT_THAT(words, ::testing::UnorderedElementsAre("correct", "wrong"));
  EXPECT_EQ(StatusOf(Exchange(GetText("/api/grades?run=" + run))), 400);
  const auto with = [&](size_t bytes) { return "/api/grades?run=" + run + "&gold=" + std::string(bytes, '1'); };
  EXPECT_EQ(StatusOf(Exchange(GetText(with(3'000)))), 200);
}

TEST_F(PageTest, WhatWasSaidIsForThoseWithTheToken) {
  DoorOptions options;
  options.token = "secret";
  Serve(Fixed, options);
  EXPECT_EQ(StatusOf(Exchange(GetText("/"))), 200);
  for (const char* path : {"/api/runs", "/api/events?run=x", "/api/graph?name=vote", "/api/grades?run=x&gold=1"}) {
    EXPECT_EQ(StatusOf(Exchange(GetText(path))), 401) << path;
  }
  EXPECT_EQ(StatusOf(Exchange(GetText("/api/runs", "Authorization: Bearer secret\r\n"))), 200);
}

}  // namespace
}  // namespace conclave::orchestrator
