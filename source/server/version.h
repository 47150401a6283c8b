// The version of the programs of this tree; CMake's project() has the same.
#pragma once

#include <string_view>

namespace outrigger::server {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace outrigger::server
