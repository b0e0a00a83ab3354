// SPDX-License-Identifier: Apache-2.0
// Errors of a graph, collected instead of thrown, and told in the order of the file.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave::orchestrator {

// Errors beyond this many help nobody.
inline constexpr size_t kDiagnosticsMax = 200;

class Diagnostics {
 public:
  explicit Diagnostics(std::string file) : file_(std::move(file)) {}

  // "file:line: <what>".
  void Add(int line, std::string what);
  // "file:line: node "name": <what>"; what to do belongs behind a semicolon.
  template <typename... Args>
  void AtNode(int line, std::string_view node, fmt::format_string<Args...> format, Args&&... args) {
    Add(line, fmt::format("node \"{}\": {}", node, fmt::format(format, std::forward<Args>(args)...)));
  }

  bool empty() const { return found_.empty(); }
  size_t size() const { return found_.size(); }
  // In order of lines; of equal lines in order of finding.
  std::vector<std::string> Sorted() const;

 private:
  std::string file_;
  std::vector<std::pair<int, std::string>> found_;
};

// "; did you mean "x"?", or "; <intro>: a, b, c", or "; there are none".
std::string Suggest(std::string_view name, std::vector<std::string> known, std::string_view intro);

}  // namespace conclave::orchestrator
