#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ctime>

namespace outrigger::log {
namespace {
std::atomic<int> current{static_cast<int>(Level::kInfo)};
constexpr std::string_view kNames[] = {"trace", "debug", "info", "warning", "error", "critical", "off"};
}  // namespace

Level level() { return static_cast<Level>(current.load(std::memory_order_relaxed)); }
void set_level(Level level) { current.store(static_cast<int>(level), std::memory_order_relaxed); }

std::optional<Level> parse_level(std::string_view name) {
  if (name == "warn") name = "warning";
  for (int i = 0; i < 7; ++i)
    if (kNames[i] == name) return static_cast<Level>(i);
  return std::nullopt;
}

std::string_view level_name(Level level) { return kNames[static_cast<int>(level)]; }

void write(Level level, std::string_view room, std::string_view message) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  const int millis = static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count() % 1000);
  tm utc{};
  gmtime_r(&seconds, &utc);
  std::string line =
      fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z {:<8} {:<8} {}\n", utc.tm_year + 1900, utc.tm_mon + 1,
                  utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, millis, level_name(level), room, message);
  // One write a line: lines of several threads do not mix. A full pipe or closed stderr loses the line, no more.
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace outrigger::log
