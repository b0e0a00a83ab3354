// SPDX-License-Identifier: Apache-2.0
#include "protos/rpc_status.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace conclave::rpc {
namespace {

#define CONCLAVE_SAME_CODE(absl_code, grpc_code) \
  static_assert(static_cast<int>(absl::StatusCode::absl_code) == static_cast<int>(grpc::StatusCode::grpc_code))
CONCLAVE_SAME_CODE(kOk, OK);
CONCLAVE_SAME_CODE(kCancelled, CANCELLED);
CONCLAVE_SAME_CODE(kUnknown, UNKNOWN);
CONCLAVE_SAME_CODE(kInvalidArgument, INVALID_ARGUMENT);
CONCLAVE_SAME_CODE(kDeadlineExceeded, DEADLINE_EXCEEDED);
CONCLAVE_SAME_CODE(kNotFound, NOT_FOUND);
CONCLAVE_SAME_CODE(kAlreadyExists, ALREADY_EXISTS);
CONCLAVE_SAME_CODE(kPermissionDenied, PERMISSION_DENIED);
CONCLAVE_SAME_CODE(kResourceExhausted, RESOURCE_EXHAUSTED);
CONCLAVE_SAME_CODE(kFailedPrecondition, FAILED_PRECONDITION);
CONCLAVE_SAME_CODE(kAborted, ABORTED);
CONCLAVE_SAME_CODE(kOutOfRange, OUT_OF_RANGE);
CONCLAVE_SAME_CODE(kUnimplemented, UNIMPLEMENTED);
CONCLAVE_SAME_CODE(kInternal, INTERNAL);
CONCLAVE_SAME_CODE(kUnavailable, UNAVAILABLE);
CONCLAVE_SAME_CODE(kDataLoss, DATA_LOSS);
CONCLAVE_SAME_CODE(kUnauthenticated, UNAUTHENTICATED);
#undef CONCLAVE_SAME_CODE

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr size_t kReasonBytesMax = 63;  // google.rpc.ErrorInfo's own rule
constexpr size_t kListedViolationsMax = 3;
constexpr std::string_view kTypePrefix = "type.googleapis.com/";
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

template <typename Message>
std::string TypeUrl() {
  return fmt::format("{}{}", kTypePrefix, Message::descriptor()->full_name());
}

template <typename Detail>
void SetDetail(absl::Status* status, const Detail& detail) {
  if (!status->ok()) status->SetPayload(TypeUrl<Detail>(), absl::Cord(detail.SerializeAsString()));
}

template <typename Detail>
std::optional<Detail> GetDetail(const absl::Status& status) {
  const auto payload = status.GetPayload(TypeUrl<Detail>());
  Detail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

bool IsReasonCharacter(char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

// "PROMPT_TOO_LONG: 9000 tokens" -> "PROMPT_TOO_LONG". Without the colon it takes an underscore to tell a reason from
// prose ("GGUF files ..").
std::string_view ReasonInFront(std::string_view message) {
  const auto end = std::find_if_not(message.begin(), message.end(), IsReasonCharacter);
  const std::string_view word = message.substr(0, static_cast<size_t>(end - message.begin()));
  const std::string_view rest = message.substr(word.size());
  if (word.size() < 3 || word.size() > kReasonBytesMax || word[0] < 'A' || word[0] > 'Z') return {};
  const bool set_off = rest.starts_with(": ") || (rest.starts_with(" ") && word.find('_') != std::string_view::npos);
  return set_off ? word : std::string_view();
}

// Bytes of the UTF-8 character that `text` begins with (RFC 3629, table 3-7 of Unicode), 0 if it begins with none.
size_t CharacterBytes(std::string_view text) {
  const auto at = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0}; };
  const auto in = [](uint8_t b, uint8_t low, uint8_t high) { return b >= low && b <= high; };
  const uint8_t b = at(0);
  if (text.empty()) return 0;
  if (b < 0x80) return 1;
  if (in(b, 0xC2, 0xDF)) return in(at(1), 0x80, 0xBF) ? 2 : 0;
  if (in(b, 0xE0, 0xEF)) {
    const uint8_t low = b == 0xE0 ? 0xA0 : 0x80;   // no overlong forms
    const uint8_t high = b == 0xED ? 0x9F : 0xBF;  // no surrogates
    return in(at(1), low, high) && in(at(2), 0x80, 0xBF) ? 3 : 0;
  }
  if (in(b, 0xF0, 0xF4)) {
    const uint8_t low = b == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = b == 0xF4 ? 0x8F : 0xBF;  // up to U+10FFFF
    return in(at(1), low, high) && in(at(2), 0x80, 0xBF) && in(at(3), 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

// Adds as many violations as fit; one more then says how many do not.
void FitViolations(google::rpc::Status* wire, const google::rpc::BadRequest& bad_request) {
  constexpr size_t kFramingBytes = 64 + 80;  // the Any with its type URL, and the last violation
  constexpr size_t kPerViolationBytes = 4;   // tag and length
  const int total = bad_request.field_violations_size();
  google::rpc::BadRequest shown;
  size_t bytes = wire->ByteSizeLong() + kFramingBytes;
  for (const auto& violation : bad_request.field_violations()) {
    bytes += violation.ByteSizeLong() + kPerViolationBytes;
    if (bytes > static_cast<size_t>(kDetailsBytesMax)) break;
    *shown.add_field_violations() = violation;
  }
  if (const int dropped = total - shown.field_violations_size(); dropped > 0) {
    shown.add_field_violations()->set_description(fmt::format("and {} more violations, not shown", dropped));
  }
  wire->add_details()->PackFrom(shown);
}

}  // namespace

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t n = CharacterBytes(text);
    out += n == 0 ? kReplacement : text.substr(0, n);
    text.remove_prefix(std::max<size_t>(n, 1));
  }
  return out;
}

std::string_view CutUtf8(std::string_view text, int64_t bytes_max) {
  if (static_cast<int64_t>(text.size()) <= bytes_max) return text;
  size_t n = static_cast<size_t>(std::max<int64_t>(bytes_max, 0));
  while (n > 0 && (static_cast<uint8_t>(text[n]) & 0xC0) == 0x80) --n;
  return text.substr(0, n);
}

absl::Status WithReason(absl::Status status, std::string_view reason,
                        const std::map<std::string, std::string>& metadata) {
  CONCLAVE_CHECK(!reason.empty() && reason.size() <= kReasonBytesMax);
  CONCLAVE_CHECK(std::all_of(reason.begin(), reason.end(), IsReasonCharacter));
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain(std::string(kErrorDomain));
  for (const auto& [key, value] : metadata) (*info.mutable_metadata())[key] = ReplaceInvalidUtf8(value);
  SetDetail(&status, info);
  return status;
}

absl::Status WithViolations(absl::Status status, std::span<const FieldViolation> violations) {
  google::rpc::BadRequest bad_request;
  for (const FieldViolation& v : violations) {
    auto* const out = bad_request.add_field_violations();
    out->set_field(ReplaceInvalidUtf8(v.field));
    out->set_description(ReplaceInvalidUtf8(v.description));
  }
  SetDetail(&status, bad_request);
  return status;
}

absl::Status WithRetryDelay(absl::Status status, int64_t delay_ns) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(delay_ns / kNsPerSecond);
  info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(delay_ns % kNsPerSecond));
  SetDetail(&status, info);
  return status;
}

absl::Status BadRequest(std::string_view message_name, std::span<const FieldViolation> violations,
                        std::string_view reason) {
  if (violations.empty()) return absl::OkStatus();
  std::string text = fmt::format("{}: ", message_name);
  for (size_t i = 0; i < std::min(violations.size(), kListedViolationsMax); ++i) {
    text += fmt::format("{}{}: {}", i == 0 ? "" : "; ", violations[i].field, violations[i].description);
  }
  if (violations.size() > kListedViolationsMax) {
    text += fmt::format("; and {} more", violations.size() - kListedViolationsMax);
  }
  return WithViolations(WithReason(MakeStatus(absl::StatusCode::kInvalidArgument, text), reason), violations);
}

std::string Reason(const absl::Status& status) {
  if (const auto info = GetDetail<google::rpc::ErrorInfo>(status)) return info->reason();
  return std::string(ReasonInFront(Message(status)));
}

std::map<std::string, std::string> ReasonMetadata(const absl::Status& status) {
  const auto info = GetDetail<google::rpc::ErrorInfo>(status);
  if (!info) return {};
  return {info->metadata().begin(), info->metadata().end()};
}

std::vector<FieldViolation> Violations(const absl::Status& status) {
  std::vector<FieldViolation> out;
  if (const auto bad_request = GetDetail<google::rpc::BadRequest>(status)) {
    for (const auto& v : bad_request->field_violations()) out.push_back({v.field(), v.description()});
  }
  return out;
}

std::optional<int64_t> RetryDelayNs(const absl::Status& status) {
  const auto info = GetDetail<google::rpc::RetryInfo>(status);
  if (!info) return std::nullopt;
  // A peer's numbers: clamped to what a Duration may hold, so that the product cannot overflow.
  const int64_t seconds = std::clamp<int64_t>(info->retry_delay().seconds(), 0, 86'400);
  return seconds * kNsPerSecond + std::clamp(info->retry_delay().nanos(), 0, 999'999'999);
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status wire;
  wire.set_code(static_cast<int>(status.code()));
  const std::string message = ReplaceInvalidUtf8(Message(status));
  wire.set_message(std::string(CutUtf8(message, kMessageBytesMax)));

  google::rpc::ErrorInfo info;
  if (const auto given = GetDetail<google::rpc::ErrorInfo>(status)) {
    info = *given;
  } else {
    const std::string_view in_front = ReasonInFront(Message(status));
    info.set_reason(in_front.empty() ? absl::StatusCodeToString(status.code()) : std::string(in_front));
    info.set_domain(std::string(kErrorDomain));
  }
  wire.add_details()->PackFrom(info);
  if (static_cast<int64_t>(wire.ByteSizeLong()) > kDetailsBytesMax) {
    info.clear_metadata();
    wire.mutable_details(0)->PackFrom(info);
  }
  if (const auto retry = GetDetail<google::rpc::RetryInfo>(status)) wire.add_details()->PackFrom(*retry);
  if (const auto bad_request = GetDetail<google::rpc::BadRequest>(status)) FitViolations(&wire, *bad_request);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), wire.message(), wire.SerializeAsString());
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = static_cast<int>(status.error_code());
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  absl::Status out =
      MakeStatus(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown, status.error_message());
  google::rpc::Status wire;
  if (!wire.ParseFromString(status.error_details())) return out;
  for (const google::protobuf::Any& any : wire.details()) {
    if (google::rpc::ErrorInfo info; any.UnpackTo(&info)) SetDetail(&out, info);
    if (google::rpc::RetryInfo info; any.UnpackTo(&info)) SetDetail(&out, info);
    if (google::rpc::BadRequest info; any.UnpackTo(&info)) SetDetail(&out, info);
  }
  return out;
}

}  // namespace conclave::rpc
