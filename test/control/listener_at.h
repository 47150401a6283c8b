// listener_at: a listener resource with a port of its own, for validation; nobody binds it.
//
// Use:  write_file(dir / "a.yaml", test::resource_file({listener_at("a", 8080)}));
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "support/resources.h"

namespace outrigger::control {

inline std::string listener_at(const std::string& name, uint16_t port) {
  std::string text = test::listener_resource(name, "table");
  const std::string any_port = "port_value: 0";
  const size_t at = text.find(any_port);
  EXPECT_NE(at, std::string::npos) << text;
  return text.replace(at, any_port.size(), "port_value: " + std::to_string(port));
}

}  // namespace outrigger::control
