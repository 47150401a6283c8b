#include "event/file_watch.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "event/loop.h"
#include "event/timer.h"

namespace outrigger::event {
namespace {

constexpr uint32_t kEntryEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE;

// The directory and the last component of a path without trailing slashes. "x" is in ".".
std::pair<std::string, std::string> split(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

bool is_directory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// Whether an entry that was just made is complete: a regular file is only once it is closed, unless it is a hard link.
bool complete_when_made(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return false;
  return !S_ISREG(info.st_mode) || info.st_nlink > 1;
}

// Whether other entries may be reached by way of this one (`..data`).
bool leads_elsewhere(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return false;
  return S_ISDIR(info.st_mode) || (S_ISLNK(info.st_mode) && is_directory(path));
}

}  // namespace

struct FileWatch::Impl {
  // One path as it was given.
  struct Watched {
    std::string given;
    std::string directory;  // whose entries matter
    std::string entry;      // the only entry that matters; empty: all
  };
  // What an inotify watch on a directory is for.
  struct Role {
    size_t watched;
    std::string replaced_by;  // empty: entries of Watched::directory; else: this entry leads to Watched::directory
  };
  // The libuv handle outlives the watch until libuv has closed it.
  struct Poll {
    uv_poll_t handle;
    Impl* owner;
  };

  Impl(Loop& loop, Callback callback, uint64_t settle_ms)
      : loop(loop), callback(std::move(callback)), settle_ms(settle_ms) {}
  ~Impl();

  Result<void> start(std::vector<std::string> paths);
  Result<void> watch_directories();
  void read_events();
  void on_event(const inotify_event& event);
  void on_entry(const Watched& watched, const std::string& name, uint32_t mask);
  void changed(std::string path);
  void rescan(const Watched& watched);
  void arm();
  void settle();

  Loop& loop;
  Callback callback;
  const uint64_t settle_ms;
  int fd = -1;
  Poll* poll = nullptr;
  std::vector<Watched> paths;
  std::map<int, std::vector<Role>> roles;  // by watch descriptor
  bool rebuild = false;                    // a watched directory may be another one now
  std::set<std::string> changed_paths, rescan_paths;
  int64_t first_ns = 0;  // of the batch; 0: none
  Timeout settled{[](void* self) { static_cast<Impl*>(self)->settle(); }, this};
};

FileWatch::Impl::~Impl() {
  if (poll != nullptr) {
    uv_poll_stop(&poll->handle);
    uv_close(reinterpret_cast<uv_handle_t*>(&poll->handle),
             [](uv_handle_t* handle) { delete static_cast<Poll*>(handle->data); });
  }
  if (fd >= 0) close(fd);
}

Result<void> FileWatch::Impl::start(std::vector<std::string> given_paths) {
  for (std::string& given : given_paths) {
    Watched& watched = paths.emplace_back();
    watched.given = given;
    const bool directory = (!given.empty() && given.back() == '/') || is_directory(given);
    const std::string clean = without_slashes(std::move(given));
    if (directory) {
      watched.directory = clean;
    } else {
      std::tie(watched.directory, watched.entry) = split(clean);
    }
  }
  fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return fail(Errc::kIo, fmt::format("inotify: {}", strerror(errno)));
  if (auto watched = watch_directories(); !watched) return watched;
  poll = new Poll{{}, this};
  poll->handle.data = poll;
  if (int rc = uv_poll_init(loop.uv(), &poll->handle, fd); rc != 0) {
    delete std::exchange(poll, nullptr);
    return fail(Errc::kIo, fmt::format("uv_poll_init: {}", uv_strerror(rc)));
  }
  uv_poll_start(&poll->handle, UV_READABLE, [](uv_poll_t* handle, int, int) {
    Impl* self = static_cast<Poll*>(handle->data)->owner;
    Turn turn(self->loop);
    self->read_events();
  });
  return {};
}

// Watches each directory and its parent (for the directory's own replacement). Adding a watch again gives the same
// descriptor, so this may be called whenever a directory may have become another one.
Result<void> FileWatch::Impl::watch_directories() {
  std::map<int, std::vector<Role>> now;
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string& directory = paths[i].directory;
    if (directory != "/" && directory != "." && directory != "..") {
      const auto [parent, name] = split(directory);
      const int wd = inotify_add_watch(fd, parent.c_str(), kEntryEvents | IN_ONLYDIR);
      if (wd < 0 && paths[i].entry.empty()) {
        return fail(Errc::kNotFound, fmt::format("cannot watch {}: {}", parent, strerror(errno)));
      }
      if (wd >= 0) now[wd].push_back({i, name});
    }
    const int wd = inotify_add_watch(fd, directory.c_str(), kEntryEvents | IN_ONLYDIR);
    if (wd >= 0) {
      now[wd].push_back({i, {}});
    } else if (!paths[i].entry.empty() || errno == ENOSPC) {
      return fail(Errc::kNotFound, fmt::format("cannot watch {}: {}", directory, strerror(errno)));
    }
  }
  for (const auto& [wd, unused] : roles) {
    if (now.find(wd) == now.end()) inotify_rm_watch(fd, wd);
  }
  roles = std::move(now);
  return {};
}

void FileWatch::Impl::read_events() {
  alignas(inotify_event) char buffer[16 * 1024];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n <= 0) break;
    for (const char* at = buffer; at < buffer + n;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      on_event(*event);
      at += sizeof(inotify_event) + event->len;
    }
  }
  if (rebuild) {
    rebuild = false;
    // A directory that is gone is found again by way of its parent; if that is gone too, the last good state stays.
    (void)watch_directories();
  }
  if (!changed_paths.empty() || !rescan_paths.empty()) arm();
}

void FileWatch::Impl::on_event(const inotify_event& event) {
  if ((event.mask & IN_Q_OVERFLOW) != 0) {
    rebuild = true;
    for (const Watched& watched : paths) rescan(watched);
    return;
  }
  const auto found = roles.find(event.wd);
  if (found == roles.end()) return;
  if ((event.mask & IN_IGNORED) != 0) {
    rebuild = true;
    for (const Role& role : found->second) rescan(paths[role.watched]);
    return;
  }
  const std::string name = event.len > 0 ? std::string(event.name) : std::string();
  for (const Role& role : found->second) {
    const Watched& watched = paths[role.watched];
    if (role.replaced_by.empty()) {
      on_entry(watched, name, event.mask);
    } else if (role.replaced_by == name) {
      rebuild = true;
      rescan(watched);
    }
  }
}

void FileWatch::Impl::on_entry(const Watched& watched, const std::string& name, uint32_t mask) {
  const std::string path = watched.directory + "/" + name;
  const bool gone = (mask & (IN_DELETE | IN_MOVED_FROM)) != 0;
  if ((mask & IN_CREATE) != 0 && !complete_when_made(path)) return;
  if (!gone && leads_elsewhere(path)) return rescan(watched);
  if (watched.entry.empty()) {
    changed(path);
  } else if (watched.entry == name) {
    changed(watched.given);
  }
}

void FileWatch::Impl::changed(std::string path) { changed_paths.insert(std::move(path)); }
void FileWatch::Impl::rescan(const Watched& watched) { rescan_paths.insert(watched.given); }

void FileWatch::Impl::arm() {
  if (first_ns == 0) first_ns = loop.now_ns();
  const int64_t waited_ms = (loop.now_ns() - first_ns) / 1'000'000;
  const int64_t left_ms = static_cast<int64_t>(3 * settle_ms) - waited_ms;
  if (left_ms >= static_cast<int64_t>(settle_ms) || !settled.armed()) loop.timers().arm(settled, settle_ms);
}

void FileWatch::Impl::settle() {
  FileBatch batch;
  batch.changed.assign(changed_paths.begin(), changed_paths.end());
  batch.rescan.assign(rescan_paths.begin(), rescan_paths.end());
  changed_paths.clear();
  rescan_paths.clear();
  first_ns = 0;
  const Callback call = callback;  // it may destroy us
  call(batch);
}

FileWatch::FileWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileWatch::~FileWatch() = default;

Result<std::unique_ptr<FileWatch>> FileWatch::open(Loop& loop, std::vector<std::string> paths, Callback callback,
                                                   uint64_t settle_ms) {
  auto impl = std::make_unique<Impl>(loop, std::move(callback), settle_ms);
  if (auto started = impl->start(std::move(paths)); !started) return tl::unexpected(started.error());
  return std::unique_ptr<FileWatch>(new FileWatch(std::move(impl)));
}

}  // namespace outrigger::event
