#include "config/names.h"

#include <arpa/inet.h>

#include <algorithm>

namespace outrigger::config {
namespace {

constexpr size_t kMaxHeaderNameBytes = 16'384;

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool is_token_char(char c) {
  return is_alnum(c) || (c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
}

}  // namespace

std::string lower_ascii(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view short_type(std::string_view type_url) { return type_url.substr(type_url.rfind('.') + 1); }

bool is_header_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxHeaderNameBytes && std::all_of(name.begin(), name.end(), is_token_char);
}

bool is_header_or_pseudo_name(std::string_view name) {
  if (!name.empty() && name.front() == ':') name.remove_prefix(1);
  return is_header_name(name);
}

bool is_header_value(std::string_view value) {
  return value.find_first_of(std::string_view("\0\r\n", 3)) == std::string_view::npos;
}

IpVersion ip_version(std::string_view literal) {
  if (literal.size() >= INET6_ADDRSTRLEN || literal.find('\0') != std::string_view::npos) return IpVersion::kNone;
  const std::string text(literal);
  in6_addr scratch;
  if (inet_pton(AF_INET, text.c_str(), &scratch) == 1) return IpVersion::kV4;
  return inet_pton(AF_INET6, text.c_str(), &scratch) == 1 ? IpVersion::kV6 : IpVersion::kNone;
}

bool is_dns_name(std::string_view name) {
  if (!name.empty() && name.back() == '.') name.remove_suffix(1);
  if (name.empty() || name.size() > 253) return false;
  while (!name.empty()) {
    const size_t dot = std::min(name.find('.'), name.size());
    const std::string_view label = name.substr(0, dot);
    if (label.empty() || label.size() > 63) return false;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return is_alnum(c) || c == '-' || c == '_'; }))
      return false;
    if (dot + 1 == name.size()) return false;
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  return true;
}

}  // namespace outrigger::config
