// SPDX-License-Identifier: Apache-2.0
#include "engine/format/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "common/check.h"
#include "common/status.h"

namespace conclave::engine {
namespace {

// What the signal handler reads: lock-free atomics only. A slot is free while `begin` is 0; `end` is set before it.
struct GuardedRange {
  std::atomic<uintptr_t> begin = 0;
  std::atomic<uintptr_t> end = 0;
  std::atomic<bool> faulted = false;
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// Constant-initialised and never destroyed before the last fault.
constinit std::array<GuardedRange, MappedFile::kMappedFilesMax> guarded_ranges;
constinit std::atomic<uintptr_t> page_bytes = 4096;
struct sigaction previous_action;  // written before the handler is installed

void OnBusError(int signal_number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (GuardedRange& range : guarded_ranges) {
    const uintptr_t begin = range.begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= range.end.load(std::memory_order_acquire)) continue;
    range.faulted.store(true, std::memory_order_release);
    const uintptr_t page_size = page_bytes.load(std::memory_order_relaxed);
    void* page = reinterpret_cast<void*>(address & ~(page_size - 1));  // NOLINT(performance-no-int-to-ptr)
    if (mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
      errno = saved_errno;
      return;
    }
  }
  // Not ours: what would have happened without us.
  if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
    previous_action.sa_sigaction(signal_number, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal_number);
  } else {
    signal(SIGBUS, SIG_DFL);  // the access is repeated on return and ends the process
  }
  errno = saved_errno;
}

void InstallHandlerOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_bytes.store(static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)));
    struct sigaction action = {};
    action.sa_sigaction = OnBusError;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    CONCLAVE_CHECK(sigaction(SIGBUS, &action, &previous_action) == 0);
  });
}

std::mutex guard_mutex;  // serialises taking and freeing slots; the handler does not take it

// The slot's index, or -1 when all are taken.
int Guard(std::span<const std::byte> bytes) {
  InstallHandlerOnce();
  const std::lock_guard lock(guard_mutex);
  for (size_t i = 0; i < guarded_ranges.size(); ++i) {
    GuardedRange& range = guarded_ranges[i];
    if (range.begin.load(std::memory_order_relaxed) != 0) continue;
    const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
    range.faulted.store(false, std::memory_order_relaxed);
    range.end.store(begin + bytes.size(), std::memory_order_release);
    range.begin.store(begin, std::memory_order_release);
    return static_cast<int>(i);
  }
  return -1;
}

void Unguard(int index) {
  const std::lock_guard lock(guard_mutex);
  guarded_ranges[static_cast<size_t>(index)].begin.store(0, std::memory_order_release);
}

// Maps `descriptor`; the caller closes it on error.
absl::StatusOr<std::span<const std::byte>> Map(const std::string& path, int descriptor) {
  struct stat info = {};
  if (fstat(descriptor, &info) != 0) return Internal("{}: cannot stat: {}", path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) {
    return FailedPrecondition("MODEL_FILE_INVALID {}: not a regular file; name a model file", path);
  }
  if (info.st_size == 0) return FailedPrecondition("MODEL_FILE_INVALID {}: the file is empty", path);
  const auto size = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) return Internal("{}: cannot map {} bytes: {}", path, size, std::strerror(errno));
  return std::span(static_cast<const std::byte*>(data), size);
}

void Unmap(std::span<const std::byte> bytes) { munmap(const_cast<std::byte*>(bytes.data()), bytes.size()); }

}  // namespace

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const int error = errno;
    if (error == ENOENT) return NotFound("{}: no such file", path);
    return Internal("{}: cannot open: {}", path, std::strerror(error));
  }
  absl::StatusOr<std::span<const std::byte>> bytes = Map(path, descriptor);
  if (!bytes.ok()) {
    close(descriptor);
    return bytes.status();
  }
  const int guard = Guard(*bytes);
  if (guard < 0) {
    Unmap(*bytes);
    close(descriptor);
    return ResourceExhausted("{}: {} model files are mapped already; close one", path, kMappedFilesMax);
  }
  return std::unique_ptr<MappedFile>(new MappedFile(path, descriptor, *bytes, guard));
}

MappedFile::~MappedFile() {
  Unmap(bytes_);
  Unguard(guard_);
  close(descriptor_);
}

absl::Status MappedFile::CheckIntact() const {
  struct stat info = {};
  if (fstat(descriptor_, &info) != 0) return Internal("{}: cannot stat: {}", path_, std::strerror(errno));
  const bool faulted = guarded_ranges[static_cast<size_t>(guard_)].faulted.load(std::memory_order_acquire);
  if (faulted || info.st_size < 0 || static_cast<size_t>(info.st_size) < bytes_.size()) {
    return FailedPrecondition(
        "MODEL_FILE_INVALID {}: shrank from {} to {} bytes while in use; restore the file and load it again", path_,
        bytes_.size(), static_cast<int64_t>(info.st_size));
  }
  return absl::OkStatus();
}

void MappedFile::DropResident(std::span<const std::byte> part) const {
  const uintptr_t page_size = page_bytes.load(std::memory_order_relaxed);
  const auto begin = (reinterpret_cast<uintptr_t>(part.data()) + page_size - 1) & ~(page_size - 1);
  const auto end = reinterpret_cast<uintptr_t>(part.data() + part.size()) & ~(page_size - 1);
  if (begin >= end) return;
  // Advice only: on failure the pages stay, which costs memory and nothing else.
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);  // NOLINT(performance-no-int-to-ptr)
}

}  // namespace conclave::engine
