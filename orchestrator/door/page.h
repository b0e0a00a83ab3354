// SPDX-License-Identifier: Apache-2.0
// The page that shows runs, past and running, and what it reads: files that are part of the program, and JSON.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <string_view>

#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/http/http_server.h"
#include "orchestrator/run/executor.h"

namespace conclave::orchestrator {

inline constexpr int64_t kRunsPerPage = 50;
inline constexpr size_t kListedQuestionBytesMax = 300;
inline constexpr int64_t kGoldBytesMax = 4 << 10;

// Thread-safe. Executor and graphs outlive it and its replies.
class Page {
 public:
  // Streams of events end once `ending` is true: whoever watches does not hold up a stop.
  Page(Executor* executor, GraphLibrary* graphs, const Clock* clock, const std::atomic<bool>* ending)
      : executor_(executor), graphs_(graphs), clock_(clock), ending_(ending) {}

  // "/" and what it loads; the same for everybody. Absent: no such file.
  static std::optional<http::Reply> File(std::string_view path);
  // Paths that begin with "/api/".
  http::Reply Api(const http::Request& request) const;

 private:
  http::Reply Runs(const http::Request& request) const;    // ?before=NUMBER
  http::Reply Graph(const http::Request& request) const;   // ?name=GRAPH: its picture
  http::Reply Events(const http::Request& request) const;  // ?run=ID: a stream of events as JSON, tokens included
  http::Reply Grades(const http::Request& request) const;  // ?run=ID&gold=ANSWER: {"outcomes": {sequence number: ..}}

  Executor* const executor_;
  GraphLibrary* const graphs_;
  const Clock* const clock_;
  const std::atomic<bool>* const ending_;
};

}  // namespace conclave::orchestrator
