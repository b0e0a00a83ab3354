// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/serve_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

using Words = std::vector<std::string>;

// The words that hand on what `words` say.
Words HandedOn(Words words) {
  CLI::App app;
  ServeFlags flags;
  const std::vector<CLI::Option*> options = flags.Add(&app);
  std::reverse(words.begin(), words.end());  // as CLI11 wants a vector
  app.parse(words);
  return WordsOf(options);
}

TEST(ServeFlags, EveryOptionIsHandedOnAsItWasGiven) {
  CLI::App app;
  ServeFlags flags;
  Words all;
  for (const CLI::Option* option : flags.Add(&app)) {
    const std::string name = "--" + option->get_lnames().at(0);
    Words words = {name};
    if (option->get_expected_max() > 0) {
      words.push_back(name == "--http-drain-seconds" ? "7" : name == "--log-level" ? "warn" : "a b \"" + name);
    }
    EXPECT_EQ(HandedOn(words), words);
    all.insert(all.end(), words.begin(), words.end());
  }
  EXPECT_EQ(HandedOn(all), all);
  EXPECT_EQ(HandedOn({}), Words());  // a default is the other program's own
  EXPECT_THAT(all, ::testing::IsSupersetOf({"--http-tls-cert", "--http-tls-key", "--http-tls-client-ca",
                                            "--http-token-file", "--store", "--listen", "--insecure-listen"}));
}

}  // namespace
}  // namespace conclave::orchestrator
