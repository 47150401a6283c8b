// Small questions about names and values that several translators ask: header names and values, IP literals, domains.
//
// Thread rule: pure functions.
// Use:  if (!is_header_name(lower_ascii(name))) faults.add(path, "...");
#pragma once

#include <string>
#include <string_view>

namespace outrigger::config {

std::string lower_ascii(std::string_view text);

// "type.googleapis.com/envoy.config.cluster.v3.Cluster": "Cluster".
std::string_view short_type(std::string_view type_url);

// A field name token (RFC 9110 section 5.1), at most 16,384 bytes.
bool is_header_name(std::string_view name);
// The same, or one of HTTP/2's pseudo-header names (":path").
bool is_header_or_pseudo_name(std::string_view name);
// No NUL, CR or LF (RFC 9110 section 5.5).
bool is_header_value(std::string_view value);

enum class IpVersion { kNone, kV4, kV6 };
// What kind of IP literal it is; kNone: none. No brackets, no zone.
IpVersion ip_version(std::string_view literal);

// A name that DNS can be asked for: labels of letters, digits, '-', '_'; at most 253 characters.
bool is_dns_name(std::string_view name);

}  // namespace outrigger::config
