// SPDX-License-Identifier: Apache-2.0
// Whole-file reading, writing and hashing with errors that name the path. What is read fits into memory; model files
// are mapped by format/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave {

// The file's bytes. NOT_FOUND, RESOURCE_EXHAUSTED over bytes_max, or INTERNAL for a read error. A directory is an
// error.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t bytes_max = int64_t{1} << 30);

// Its SHA-256, 64 lower-case digits; of a file of any size, in little memory. Errors as ReadFile.
absl::StatusOr<std::string> HashFile(const std::string& path);

// As ReadFile, but a file whose bytes begin as gzip (1f 8b) is decompressed; bytes_max bounds the decompressed size.
absl::StatusOr<std::string> ReadMaybeGzip(const std::string& path, int64_t bytes_max = int64_t{1} << 31);

// Writes to a temporary file beside `path`, then renames over it, so a reader sees the old file or the whole new one.
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes);

}  // namespace conclave
