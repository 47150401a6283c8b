// Logging of the process itself (not access logs). Lines go to stderr. Cheap when the level is off. Never log secrets:
// keys, tokens, Authorization, Cookie.
//
// Thread rule: any thread, except that workers log only on rare paths (a line is one write to stderr).
// Use:  OUTRIGGER_LOG(kInfo, "xds", "connected to {}", target);
#pragma once

#include <fmt/core.h>

#include <optional>
#include <string>
#include <string_view>

namespace outrigger::log {

enum class Level : int { kTrace, kDebug, kInfo, kWarning, kError, kCritical, kOff };

Level level();
void set_level(Level level);
std::optional<Level> parse_level(std::string_view name);  // trace debug info warning(warn) error critical off
std::string_view level_name(Level level);
void write(Level level, std::string_view room, std::string_view message);

}  // namespace outrigger::log

#define OUTRIGGER_LOG(lvl, room, ...)                                                          \
  do {                                                                                         \
    if (::outrigger::log::Level::lvl >= ::outrigger::log::level()) [[unlikely]]                \
      ::outrigger::log::write(::outrigger::log::Level::lvl, room, ::fmt::format(__VA_ARGS__)); \
  } while (0)
