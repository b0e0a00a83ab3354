// SPDX-License-Identifier: Apache-2.0
// Bodies of chat completions and completions. Whatever they are: no crash; what is read keeps its limits, what is not
// is the caller's mistake.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/check.h"
#include "orchestrator/door/openai_request.h"
#include "orchestrator/role/role.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace conclave::orchestrator;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const OpenAiApi api : {OpenAiApi::kChat, OpenAiApi::kCompletions}) {
    const absl::StatusOr<OpenAiRequest> read = ReadOpenAiRequest(body, api);
    if (!read.ok()) {
      CONCLAVE_CHECK(read.status().code() == absl::StatusCode::kInvalidArgument);
      continue;
    }
    CONCLAVE_CHECK(!read->model.empty() && !read->messages.empty());
    CONCLAVE_CHECK(read->messages.size() <= kMessagesMax && read->sampling.stop_size() <= kStopsMax);
    CONCLAVE_CHECK(read->choices >= 1 && read->choices <= kChoicesMax);
    CONCLAVE_CHECK(read->constraint == nullptr || read->constraint->json_schema().size() <= kConstraintBytesMax);
    static_cast<void>(QuestionOf(*read));
  }
  return 0;
}
