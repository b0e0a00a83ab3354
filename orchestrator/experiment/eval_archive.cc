// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/eval_archive.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "common/status.h"

namespace conclave::experiment {
namespace {

constexpr size_t kBlockBytes = 1 << 16;
constexpr char kHeader[] = "header.json";
constexpr std::string_view kSamples = "samples/", kDocument = ".json";

// Entries one after the other, as the archive's directory lists them: what was replaced in it is not seen.
class Entries {
 public:
  static absl::StatusOr<Entries> Open(const std::string& path, const EvalLimits& limits) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return NotFound("{}: there is no such file", path);
    Entries entries(path, limits);
    archive* a = entries.archive_.get();
    if (archive_read_support_format_zip_seekable(a) != ARCHIVE_OK ||
        archive_read_open_filename(a, path.c_str(), kBlockBytes) != ARCHIVE_OK) {
      return entries.Bad();
    }
    return entries;
  }

  // False after the last.
  absl::StatusOr<bool> Next() {
    const int code = archive_read_next_header(archive_.get(), &entry_);
    if (code == ARCHIVE_EOF) return false;
    if (code != ARCHIVE_OK) return Bad();
    if (++count_ > limits_.entries) return InvalidArgument("{}: holds more than {} files", path_, limits_.entries);
    const char* name = archive_entry_pathname(entry_);
    name_ = name == nullptr ? "" : name;
    return true;
  }

  const std::string& name() const { return name_; }

  // The present entry's bytes.
  absl::StatusOr<std::string> Read() {
    std::string text;
    while (true) {
      const size_t begin = text.size();
      text.resize(begin + kBlockBytes);
      const la_ssize_t got = archive_read_data(archive_.get(), text.data() + begin, kBlockBytes);
      if (got < 0) return Bad();
      text.resize(begin + static_cast<size_t>(got));
      total_ += got;
      if (static_cast<int64_t>(text.size()) > limits_.document_bytes) {
        return InvalidArgument("{}: {} has more than {} bytes unpacked; write the log without it, or as JSON", path_,
                               name_, limits_.document_bytes);
      }
      if (total_ > limits_.total_bytes) {
        return InvalidArgument("{}: has more than {} bytes unpacked", path_, limits_.total_bytes);
      }
      if (got == 0) return text;
    }
  }

 private:
  Entries(std::string path, const EvalLimits& limits) : path_(std::move(path)), limits_(limits) {}

  absl::Status Bad() const {
    const char* what = archive_error_string(archive_.get());
    return InvalidArgument("{}: {}{} cannot be read from the packed log: {}", path_, name_.empty() ? "" : "after ",
                           name_.empty() ? "it" : name_, what == nullptr ? "no reason given" : what);
  }

  struct Free {
    void operator()(archive* a) const { archive_read_free(a); }
  };
  std::unique_ptr<archive, Free> archive_{archive_read_new()};
  archive_entry* entry_ = nullptr;
  std::string path_, name_;
  EvalLimits limits_;
  int64_t count_ = 0, total_ = 0;
};

bool IsSample(std::string_view name) { return name.starts_with(kSamples) && name.ends_with(kDocument); }

}  // namespace

absl::StatusOr<std::string> ReadEvalHeader(const std::string& path, const EvalLimits& limits) {
  ASSIGN_OR_RETURN(Entries entries, Entries::Open(path, limits));
  while (true) {
    ASSIGN_OR_RETURN(const bool more, entries.Next());
    if (!more) {
      return InvalidArgument("{}: holds no {}: no log of Inspect, or of a run that has not ended", path, kHeader);
    }
    if (entries.name() == kHeader) return entries.Read();
  }
}

absl::Status ForEachEvalSample(const std::string& path, absl::FunctionRef<absl::Status(std::string_view)> each,
                               const EvalLimits& limits) {
  ASSIGN_OR_RETURN(Entries entries, Entries::Open(path, limits));
  while (true) {
    ASSIGN_OR_RETURN(const bool more, entries.Next());
    if (!more) return absl::OkStatus();
    const std::string& name = entries.name();
    if (!IsSample(name)) continue;
    if (std::count(name.begin(), name.end(), '/') > 1) {
      return InvalidArgument(
          "{}: {} is part of a sample in chunks; write the log as JSON: inspect log convert --to json", path, name);
    }
    ASSIGN_OR_RETURN(const std::string text, entries.Read());
    RETURN_IF_ERROR(each(text));
  }
}

}  // namespace conclave::experiment
