// SPDX-License-Identifier: Apache-2.0
// What a server over HTTP streams: events, and what a chat completion is read from them. The first byte says in what
// pieces the rest arrives. Whatever they are: no crash, and the same events as in one piece.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "orchestrator/backend/openai_wire.h"
#include "orchestrator/http/sse.h"

namespace conclave::orchestrator {
namespace {

struct Events {
  std::vector<std::string> data;
  absl::Status status;
};

Events Read(std::string_view stream, size_t piece) {
  Events events;
  http::SseReader reader([&events](std::string_view data) { events.data.emplace_back(data); });
  while (events.status.ok() && !stream.empty()) {
    events.status = reader.Push(stream.substr(0, piece));
    stream.remove_prefix(std::min(stream.size(), piece));
  }
  return events;
}

void ReadCompletion(const std::vector<std::string>& events) {
  OpenAiReader reader(/*traces=*/true);
  CallDelta delta;
  std::string text;
  for (const std::string& data : events) {
    if (!reader.Take(data, &delta).ok()) return;
    text += delta.text;
  }
  CONCLAVE_CHECK(reader.text() == text);
  CONCLAVE_CHECK(!reader.tokens().has_value() || reader.tokens()->cached <= reader.tokens()->prompt);
  static_cast<void>(reader.Finish());
}

}  // namespace
}  // namespace conclave::orchestrator

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace conclave::orchestrator;
  if (size == 0) return 0;
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Events whole = Read(stream, std::max<size_t>(stream.size(), 1));
  const Events pieces = Read(stream, size_t{1} + data[0] % 16);
  CONCLAVE_CHECK(whole.status.code() == pieces.status.code());
  CONCLAVE_CHECK(!whole.status.ok() || whole.data == pieces.data);
  ReadCompletion(whole.data);
  // An error's body and a header, as the same strangers send them.
  static_cast<void>(OpenAiError(300 + data[0], stream));
  const auto wait_ns = RetryAfterNs(stream);
  CONCLAVE_CHECK(!wait_ns.has_value() || *wait_ns >= 0);
  return 0;
}
