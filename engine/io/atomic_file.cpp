#include "engine/io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "engine/error.h"

namespace stillpoint::io {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

// In the same folder, so that renaming cannot cross file systems; unlike any other writer's.
std::string temporary_name(const std::filesystem::path& path) {
  static std::atomic<int> serial;
  return fmt::format("{}/.{}.{}-{}.partial", folder_of(path).string(), path.filename().string(),
                     getpid(), serial++);
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(temporary_name(path_)) {
  ::unlink(temporary_.c_str());  // left by a process of the same number that was killed
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("cannot be created");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* bytes, size_t count) {
  const char* at = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = ::write(descriptor_, at, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot be written");
    at += written;
    count -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("cannot be synced to the disk");
  // The new name itself reaches the disk with its folder, which may be closed to readers: better
  // found out while the old file is there. File systems that cannot sync a folder say EINVAL.
  const std::string folder = folder_of(path_).string();
  const int handle = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) fail("its folder cannot be opened");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::close(handle);
    errno = reason;
    fail("cannot be given its name");
  }
  ::close(std::exchange(descriptor_, -1));
  const bool synced = ::fsync(handle) == 0 || errno == EINVAL;
  const int reason = errno;
  ::close(handle);
  check<IoError>(synced, "{}: was written, but its folder cannot be synced: {}", path_.string(),
                 std::generic_category().message(reason));
}

void AtomicFile::fail(const char* what) const {
  throw IoError(
      fmt::format("{}: {}: {}", path_.string(), what, std::generic_category().message(errno)));
}

}  // namespace stillpoint::io
