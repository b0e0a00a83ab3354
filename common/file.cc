// SPDX-License-Identifier: Apache-2.0
#include "common/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/hash.h"
#include "common/status.h"

namespace conclave {
namespace {

std::string ErrnoText() { return std::strerror(errno); }  // NOLINT(concurrency-mt-unsafe): glibc's is per thread

// Gives the file's bytes in pieces. `take`: absl::Status(std::string_view), whose error ends the reading.
template <typename Take>
absl::Status ReadPieces(const std::string& path, Take take) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return errno == ENOENT ? NotFound("{}: no such file", path) : Internal("{}: cannot open: {}", path, ErrnoText());
  }
  struct stat info {};
  absl::Status status;
  if (fstat(fd, &info) != 0 || S_ISDIR(info.st_mode)) {
    status = InvalidArgument("{}: is a directory, a file was expected", path);
  }
  char buffer[1 << 16];
  while (status.ok()) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0) status = Internal("{}: read failed: {}", path, ErrnoText());
    if (n <= 0) break;
    status = take(std::string_view(buffer, static_cast<size_t>(n)));
  }
  close(fd);
  return status;
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t bytes_max) {
  std::string bytes;
  RETURN_IF_ERROR(ReadPieces(path, [&](std::string_view piece) {
    bytes.append(piece);
    return static_cast<int64_t>(bytes.size()) > bytes_max
               ? ResourceExhausted("{}: larger than the limit of {} bytes", path, bytes_max)
               : absl::OkStatus();
  }));
  return bytes;
}

absl::StatusOr<std::string> HashFile(const std::string& path) {
  Sha256 hash;
  RETURN_IF_ERROR(ReadPieces(path, [&](std::string_view piece) {
    hash.Update(piece);
    return absl::OkStatus();
  }));
  return hash.HexDigest();
}

absl::StatusOr<std::string> ReadMaybeGzip(const std::string& path, int64_t bytes_max) {
  absl::StatusOr<std::string> file = ReadFile(path, bytes_max);
  if (!file.ok() || !std::string_view(*file).starts_with("\x1f\x8b")) return file;
  std::string& bytes = *file;
  z_stream z{};
  if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) return Internal("{}: zlib would not start", path);
  z.next_in = reinterpret_cast<Bytef*>(bytes.data());
  z.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  char buffer[1 << 16];
  int code = Z_OK;
  while (code == Z_OK && static_cast<int64_t>(out.size()) <= bytes_max) {
    z.next_out = reinterpret_cast<Bytef*>(buffer);
    z.avail_out = sizeof(buffer);
    code = inflate(&z, Z_NO_FLUSH);
    out.append(buffer, sizeof(buffer) - z.avail_out);
    if (code == Z_STREAM_END && z.avail_in > 0) code = inflateReset(&z);  // gzip members may follow one another
  }
  inflateEnd(&z);
  if (static_cast<int64_t>(out.size()) > bytes_max) {
    return ResourceExhausted("{}: decompresses to more than the limit of {} bytes", path, bytes_max);
  }
  if (code != Z_STREAM_END) return DataLoss("{}: gzip data is corrupt or cut short", path);
  return out;
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  const std::string temporary = fmt::format("{}.tmp.{}", path, getpid());
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return Internal("{}: cannot create: {}", temporary, ErrnoText());
  size_t done = 0;
  bool ok = true;
  while (ok && done < bytes.size()) {
    const ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
    ok = n > 0 || (n < 0 && errno == EINTR);
    if (n > 0) done += static_cast<size_t>(n);
  }
  const std::string reason = ErrnoText();
  ok = close(fd) == 0 && ok;
  ok = ok && rename(temporary.c_str(), path.c_str()) == 0;
  if (ok) return absl::OkStatus();
  unlink(temporary.c_str());
  return Internal("{}: cannot write: {}", path, reason);
}

}  // namespace conclave
