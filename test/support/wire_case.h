// WireCase: one test case of test/cases/*.case: configuration, bytes in, bytes expected. The format is described in
// test/cases/README.md. This is the reading of it; test/integration/cases_test.cc plays it against the real program.
//
// Thread rule: values.
// Use:  WireCase c = WireCase::parse(read_file(path));  ASSERT_EQ(c.error, "");  for (const Step& step : c.steps) ...
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/http_message.h"

namespace outrigger::test {

struct WireCase {
  struct Step {
    int line = 0;      // in the file
    std::string what;  // "client sends", "upstream receives", ...
    std::string text;  // the section's lines, each with its '\n'
  };

  std::string title;  // the comment at the head of the file
  // Sections that make the configuration ("routes", "hcm", ...) and steps, in the order of the file.
  std::vector<std::pair<std::string, std::string>> config;
  std::vector<Step> steps;
  bool upstream_refuses = false;
  std::string error;  // why the file is not a case; empty: it is

  static WireCase parse(std::string_view text);
  // The whole bootstrap text for an upstream at `upstream_port`; the access log goes to `access_log_path`.
  std::string bootstrap(uint16_t upstream_port, std::string_view access_log_path) const;
};

// The bytes that a "sends" or "bytes" section stands for: each line ends with CRLF unless a backslash ends it; \r, \n,
// \t and \xHH are those bytes, two backslashes are one, ${repeat TEXT N} is TEXT N times.
std::string case_bytes(std::string_view text);

// Why `message` is not what a "receives" section asks for; empty: it is.
std::string mismatch(const HttpMessage& message, std::string_view expected);

}  // namespace outrigger::test
