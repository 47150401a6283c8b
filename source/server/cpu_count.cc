#include "server/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <thread>

#include "server/read_file.h"

namespace outrigger::server {
namespace {

constexpr size_t kMaxBytes = 64 * 1024;

std::optional<int64_t> number(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

uint32_t rounded_up(std::optional<int64_t> quota, std::optional<int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return 0;
  return static_cast<uint32_t>(std::min<int64_t>((*quota + *period - 1) / *period, UINT32_MAX));
}

// "200000 100000", "max 100000"
uint32_t quota_v2(const std::string& directory) {
  const auto text = read_file(directory + "/cpu.max", kMaxBytes);
  if (!text) return 0;
  const size_t space = text->find(' ');
  if (space == std::string::npos) return 0;
  const std::string_view view = *text;
  return rounded_up(number(view.substr(0, space)), number(view.substr(space + 1)));
}

uint32_t quota_v1(const std::string& directory) {
  const auto quota = read_file(directory + "/cpu.cfs_quota_us", kMaxBytes);
  const auto period = read_file(directory + "/cpu.cfs_period_us", kMaxBytes);
  return quota && period ? rounded_up(number(*quota), number(*period)) : 0;
}

// Of the group and all its parents. In a container with a namespace of its own the path may lead nowhere: then the
// mount's root is the group.
template <class Quota>
uint32_t tightest(const std::string& root, std::string path, Quota&& quota) {
  uint32_t result = 0;
  for (;;) {
    if (path == "/") path.clear();
    if (const uint32_t cpus = quota(root + path); cpus != 0) result = result == 0 ? cpus : std::min(result, cpus);
    if (path.empty()) return result;
    path.resize(std::min(path.size(), path.rfind('/')));
  }
}

bool lists_cpu(std::string_view controllers) {
  while (!controllers.empty()) {
    const size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == "cpu") return true;
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return false;
}

}  // namespace

// Lines "0::/path" (v2) and "4:cpu,cpuacct:/path" (v1).
uint32_t cgroup_cpus(const std::string& proc_cgroup, const std::string& mount) {
  uint32_t result = 0;
  std::string_view rest = proc_cgroup;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string path(line.substr(second + 1));
    uint32_t cpus = 0;
    if (controllers.empty())
      cpus = tightest(mount, path, quota_v2);
    else if (lists_cpu(controllers))
      cpus = tightest(mount + "/cpu", path, quota_v1);
    if (cpus != 0) result = result == 0 ? cpus : std::min(result, cpus);
  }
  return result;
}

uint32_t cpu_count() {
  uint32_t cpus = std::max(1u, std::thread::hardware_concurrency());
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) cpus = std::max(1, CPU_COUNT(&set));
  if (const auto text = read_file("/proc/self/cgroup", kMaxBytes)) {
    if (const uint32_t quota = cgroup_cpus(*text, "/sys/fs/cgroup"); quota != 0) cpus = std::min(cpus, quota);
  }
  return cpus;
}

}  // namespace outrigger::server
