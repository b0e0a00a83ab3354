// SPDX-License-Identifier: Apache-2.0
// The house rules that a machine can check: who may include whom, sizes, licence lines, registered tests, banned calls.
// The table below is the architecture; a new edge is a decision, made here.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

namespace conclave {
namespace {

namespace fs = std::filesystem;

struct Edge {
  std::string room;                   // folder prefix; the longest match counts
  std::vector<std::string> includes;  // prefixes it may include, besides its own folder
};

// DESIGN: common <- tensor <- {comm, format, quant, tokenizer, ops, kv, routing}; {comm, ops} <- model; ops <- sampler;
// {kv, model, sampler, routing} <- sched <- engine.h <- worker; {common, protos} <- orchestrator;
// {engine.h, orchestrator, protos} <- cli.
const std::vector<Edge>& Edges() {
  static const std::vector<Edge> edges = {
      {"common/", {}},
      {"common/jinja/", {"common/"}},
      {"protos/", {"common/", "google/rpc/", "conclave/"}},
      {"engine/tensor/", {"common/"}},
      {"engine/format/", {"common/", "engine/tensor/"}},
      {"engine/quant/", {"common/", "engine/tensor/"}},
      {"engine/tokenizer/", {"common/", "engine/tensor/", "engine/format/"}},
      {"engine/grammar/", {"common/", "engine/tokenizer/"}},
      {"engine/ops/", {"common/", "engine/tensor/", "engine/quant/"}},
      {"engine/kv/", {"common/", "engine/tensor/"}},
      {"engine/comm/", {"common/", "engine/tensor/"}},
      {"engine/routing/", {"common/", "engine/tensor/"}},
      {"engine/sampler/", {"common/", "engine/tensor/", "engine/ops/"}},
      {"engine/model/",
       {"common/", "engine/tensor/", "engine/format/", "engine/ops/", "engine/comm/", "engine/kv/", "engine/routing/",
        "engine/quant/"}},
      {"engine/sched/",
       {"common/", "engine/tensor/", "engine/kv/", "engine/model/", "engine/sampler/", "engine/routing/"}},
      {"engine/", {"common/", "engine/"}},
      {"worker/", {"common/", "protos/", "conclave/inference/", "google/rpc/", "engine/engine.h"}},
      {"orchestrator/experiment/grade/", {"common/"}},
      {"orchestrator/experiment/stats/", {"common/"}},
      {"orchestrator/experiment/benchmark/", {"common/"}},
      {"orchestrator/graph/",
       {"common/", "protos/textproto.h", "conclave/deliberation/", "conclave/inference/", "orchestrator/role/",
        "orchestrator/ledger/", "orchestrator/experiment/grade/"}},
      {"orchestrator/role/",
       {"common/", "protos/textproto.h", "conclave/deliberation/", "orchestrator/experiment/grade/"}},
      {"orchestrator/pick/", {"common/"}},
      {"orchestrator/ledger/", {"common/", "conclave/"}},
      {"orchestrator/", {"common/", "protos/", "conclave/", "google/rpc/", "orchestrator/"}},
      {"cli/", {"common/", "protos/", "conclave/", "google/rpc/", "orchestrator/", "engine/engine.h"}},
      {"zoo/", {"common/", "orchestrator/experiment/benchmark/", "orchestrator/role/"}},
  };
  return edges;
}

const fs::path kRoot = CONCLAVE_SOURCE_DIR;

std::vector<fs::path> Sources() {
  std::vector<fs::path> paths;
  for (const char* room : {"common", "protos", "engine", "worker", "orchestrator", "cli", "graphs", "tests", "zoo"}) {
    if (!fs::exists(kRoot / room)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / room)) {
      const std::string ext = entry.path().extension();
      if (ext == ".h" || ext == ".cc" || ext == ".cu" || ext == ".cuh") paths.push_back(entry.path());
    }
  }
  return paths;
}

std::string Relative(const fs::path& path) { return path.lexically_relative(kRoot).generic_string(); }

std::vector<std::string> Lines(const fs::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

bool IsTestCode(const std::string& path) {
  return path.starts_with("tests/") || path.ends_with("_test.cc") || path.ends_with("_fuzz.cc") ||
         path.find("_test_") != std::string::npos || path.find("_testing") != std::string::npos;
}

const Edge* RoomOf(const std::string& path) {
  const Edge* best = nullptr;
  for (const Edge& edge : Edges()) {
    if (path.starts_with(edge.room) && (best == nullptr || edge.room.size() > best->room.size())) best = &edge;
  }
  return best;
}

TEST(Structure, IncludesFollowTheEdges) {
  const std::regex include("^\\s*#include \"([^\"]+)\"");
  for (const fs::path& path : Sources()) {
    const std::string file = Relative(path);
    if (IsTestCode(file)) continue;
    const Edge* room = RoomOf(file);
    if (room == nullptr) continue;
    const std::string folder = fs::path(file).parent_path().generic_string() + "/";
    for (const std::string& line : Lines(path)) {
      std::smatch match;
      if (!std::regex_search(line, match, include)) continue;
      const std::string target = match[1];
      bool allowed = target.starts_with(folder) || target.starts_with(room->room) || target.starts_with("absl/") ||
                     target.starts_with("grpcpp/");
      for (const std::string& prefix : room->includes) allowed = allowed || target.starts_with(prefix);
      if (target.starts_with("tests/")) allowed = false;
      EXPECT_TRUE(allowed) << file << " includes " << target << ": not an edge of the architecture";
    }
  }
}

TEST(Structure, EveryFolderIsKnown) {
  for (const fs::path& path : Sources()) {
    const std::string file = Relative(path);
    EXPECT_TRUE(RoomOf(file) != nullptr || IsTestCode(file)) << file << " lies in no room of the table";
  }
}

struct Function {
  size_t line, length;
  bool reasoned;
};

// Functions defined at namespace level. clang-format begins them in column 0 and puts their closing brace alone there.
std::vector<Function> FunctionsOf(const std::vector<std::string>& lines) {
  static const std::regex not_functions(
      "^(namespace|class|struct|enum|union|extern|using|typedef|TEST|#|//|\\}|public|private).*");
  std::vector<Function> functions;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty() || lines[i][0] == ' ' || std::regex_match(lines[i], not_functions)) continue;
    std::string head;
    size_t end = i;
    for (; end < lines.size(); ++end) {
      head += lines[end];
      if (head.ends_with("{") || head.ends_with(";") || head.ends_with("}")) break;
    }
    if (!head.ends_with("{") || head.find('(') == head.npos || head.find(" = ") != head.npos) {
      i = end;
      continue;
    }
    bool reasoned = i > 0 && lines[i - 1].find("LONG FUNCTION:") != std::string::npos;
    const size_t begin = i;
    for (; i < lines.size() && !lines[i].starts_with("}"); ++i) {
      reasoned |= lines[i].find("LONG FUNCTION:") != std::string::npos;
    }
    functions.push_back({begin + 1, i - begin + 1, reasoned});
  }
  return functions;
}

// A file over 400 lines, or a function over 70, says why in a comment "LONG FILE: ..." / "LONG FUNCTION: ...".
TEST(Structure, SizesAreReasoned) {
  for (const fs::path& path : Sources()) {
    const std::string file = Relative(path);
    const std::vector<std::string> lines = Lines(path);
    bool long_file_reason = false;
    for (const std::string& line : lines) long_file_reason |= line.find("LONG FILE:") != std::string::npos;
    EXPECT_TRUE(lines.size() <= 400 || long_file_reason) << file << " has " << lines.size() << " lines, at most 400";
    EXPECT_LE(lines.size(), 800u) << file;

    for (const Function& function : FunctionsOf(lines)) {
      EXPECT_TRUE(function.length <= 70 || function.reasoned)
          << file << ":" << function.line << ": function of " << function.length << " lines, at most 70";
    }
  }
}

TEST(Structure, EveryFileNamesItsLicence) {
  for (const fs::path& path : Sources()) {
    const auto lines = Lines(path);
    ASSERT_FALSE(lines.empty()) << path;
    EXPECT_NE(lines[0].find("SPDX-License-Identifier: Apache-2.0"), std::string::npos) << Relative(path);
  }
}

TEST(Structure, EveryTestIsBuilt) {
  for (const fs::path& path : Sources()) {
    const std::string file = Relative(path);
    if (!file.ends_with("_test.cc") && !file.ends_with("_fuzz.cc") && !file.ends_with("_bench.cc")) continue;
    bool registered = false;
    for (fs::path folder = path.parent_path(); folder != kRoot && !registered; folder = folder.parent_path()) {
      std::ifstream in(folder / "CMakeLists.txt");
      const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      registered = text.find(path.filename()) != std::string::npos;
    }
    EXPECT_TRUE(registered) << file << " is named by no CMakeLists.txt";
  }
}

// A document that says what backs it, `x_test` or `x_test: Suite.Case`, names tests that exist.
TEST(Structure, TestsThatDocumentsNameExist) {
  std::string built;
  for (const char* room : {"common", "protos", "engine", "worker", "orchestrator", "cli", "graphs", "tests", "zoo"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / room)) {
      if (entry.path().filename() != "CMakeLists.txt") continue;
      for (const std::string& line : Lines(entry.path())) built += line + "\n";
    }
  }
  std::string cases;
  for (const fs::path& path : Sources()) {
    if (!Relative(path).ends_with("_test.cc")) continue;
    for (const std::string& line : Lines(path)) {
      if (line.starts_with("TEST")) cases += line.substr(line.find('(')) + "\n";
    }
  }
  const std::regex named("`([a-z0-9_]+_test)(: ([A-Za-z0-9]+)\\.([A-Za-z0-9]+))?`");
  int count = 0;
  for (const char* document : {"README.md", "CONTRIBUTING.md", "docs/status.md", "docs/models.md", "zoo/README.md"}) {
    for (const std::string& line : Lines(kRoot / document)) {
      for (std::sregex_iterator it(line.begin(), line.end(), named), end; it != end; ++it, ++count) {
        EXPECT_NE(built.find("NAME " + (*it)[1].str()), std::string::npos) << document << " names " << it->str();
        const std::string in_source = "(" + (*it)[3].str() + ", " + (*it)[4].str() + ")";
        EXPECT_TRUE(!(*it)[3].matched || cases.find(in_source) != std::string::npos)
            << document << " names " << it->str();
      }
    }
  }
  EXPECT_GT(count, 40);
}

// The cells of the table of families name cases of the goldens.
TEST(Structure, CasesInTheTableOfFamiliesExist) {
  std::string families;
  for (const std::string& line : Lines(kRoot / "tests/golden/families.json")) families += line;
  const std::regex named("`([a-z0-9_]+)`");
  bool in_table = false;
  std::set<std::string> seen;
  for (const std::string& line : Lines(kRoot / "docs/models.md")) {
    if (line.empty()) in_table = false;
    if (in_table) {
      for (std::sregex_iterator it(line.begin(), line.end(), named), end; it != end; ++it) {
        const std::string name = (*it)[1];
        seen.insert(name);
        EXPECT_TRUE(fs::exists(kRoot / "tests/golden/hf" / name) ||
                    fs::exists(kRoot / "tests/golden/quantized" / name) ||
                    families.find("\"name\":\"" + name + "\"") != std::string::npos)
            << "docs/models.md names the case " << name;
      }
    }
    if (line.starts_with("| family |")) in_table = true;
  }
  EXPECT_GT(seen.size(), 20u);
}

// What may not be called, and where it may after all. gRPC wants its deadlines as times of the system clock; killing a
// process at a random moment is a matter of time.
TEST(Structure, BannedCalls) {
  struct Ban {
    std::regex call;
    std::string instead;
    std::set<std::string> allowed;  // path prefixes
  };
  const std::vector<Ban> bans = {
      {std::regex("\\b(std::)?getenv\\("),
       "a flag, parsed in main",
       {"cli/", "tests/", "engine/tokenizer/tokenizer_bench.cc", "orchestrator/service/main.cc"}},
      {std::regex("\\bassert\\("), "CONCLAVE_CHECK, or a Status", {}},
      {std::regex("std::regex"), "PCRE2 with limits, or a parser (std::regex recurses on input)", {"tests/"}},
      {std::regex("\\b(usleep|sleep_for|SleepFor)\\("),
       "an injected clock, or waiting for the event itself",
       {"tests/bench/", "tests/integration/orchestrator_kill_test.cc"}},
      {std::regex("(steady_clock|system_clock|high_resolution_clock)::now"),
       "common/clock.h",
       {"tests/", "orchestrator/backend/"}},
      {std::regex("\\b(rand|srand|random_device)\\b *\\("), "common/hash.h (Philox) with a stated seed", {}},
  };
  for (const fs::path& path : Sources()) {
    const std::string file = Relative(path);
    if (file.starts_with("tests/structure/")) continue;
    const auto lines = Lines(path);
    for (size_t i = 0; i < lines.size(); ++i) {
      if (lines[i].find("//") != std::string::npos && lines[i].find("NOLINT") == std::string::npos &&
          lines[i].find_first_not_of(' ') == lines[i].find("//")) {
        continue;  // a comment line
      }
      for (const Ban& ban : bans) {
        bool allowed = false;
        for (const std::string& prefix : ban.allowed) allowed = allowed || file.starts_with(prefix);
        EXPECT_TRUE(allowed || !std::regex_search(lines[i], ban.call))
            << file << ":" << i + 1 << ": " << lines[i] << "\n  use " << ban.instead;
      }
    }
  }
}

}  // namespace
}  // namespace conclave
