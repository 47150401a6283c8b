// Values that all resources share: durations, patterns, addresses, headers, data sources.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/duration.pb.h>
#include <re2/re2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "config/any.h"
#include "config/format.h"
#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/core/v3/address.pb.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/type/matcher/v3/regex.pb.h"
#include "envoy/type/matcher/v3/string.pb.h"
#include "envoy/type/v3/percent.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;
namespace matcher = envoy::type::matcher::v3;

namespace {

constexpr size_t kMaxKnownRegexes = 65'536;
constexpr size_t kMaxHeaderValueBytes = 16'384;
constexpr size_t kMaxUnixPathBytes = 107;  // sun_path without its NUL

// The address with its host bits cleared, in canonical text.
std::string masked(const std::string& literal, IpVersion version, unsigned length) {
  const int family = version == IpVersion::kV4 ? AF_INET : AF_INET6;
  unsigned char bytes[16] = {};
  inet_pton(family, literal.c_str(), bytes);
  for (unsigned bit = length; bit < (family == AF_INET ? 32u : 128u); ++bit)
    bytes[bit / 8] &= static_cast<unsigned char>(~(0x80u >> (bit % 8)));
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(family, bytes, text, sizeof text);
}

// The whole of a regular file, at most max_bytes; errors go to `problem`.
std::string read_file(const std::string& name, size_t max_bytes, std::string& problem) {
  // O_NONBLOCK: opening a FIFO must not hang.
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    problem = fmt::format("cannot open {}: {}", name, std::strerror(errno));
    return {};
  }
  std::string content;
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    problem = fmt::format("{} is not a regular file", name);
  } else {
    char chunk[8192];
    ssize_t got = 0;
    while (content.size() <= max_bytes && (got = read(fd, chunk, sizeof chunk)) > 0)
      content.append(chunk, static_cast<size_t>(got));
    if (got < 0) problem = fmt::format("cannot read {}: {}", name, std::strerror(errno));
  }
  close(fd);
  return content;
}

void socket_address(const core::SocketAddress& socket, AddressUse use, AddressSpec& spec, const FieldPath& path,
                    Translation& t) {
  spec.host = socket.address();
  const IpVersion version = ip_version(spec.host);
  if (version == IpVersion::kNone) {
    spec.kind = AddressSpec::Kind::kHostname;
    if (spec.host.empty()) {
      t.fault(path.field("address"), "must not be empty");
    } else if (use != AddressUse::kDnsHost) {
      t.fault(path.field("address"), fmt::format("\"{}\" is not an IPv4 or IPv6 address{}", spec.host,
                                                 use == AddressUse::kStaticHost
                                                     ? "; a host name needs a cluster of type STRICT_DNS or LOGICAL_DNS"
                                                     : ""));
    } else if (!is_dns_name(spec.host)) {
      t.fault(path.field("address"), fmt::format("\"{}\" is neither an IP address nor a host name", spec.host));
    }
  }
  if (socket.port_specifier_case() != core::SocketAddress::kPortValue) {
    t.fault(path.field("port_value"), "is required");
  } else if (socket.port_value() > 65'535) {
    t.fault(path.field("port_value"), fmt::format("is {}, must be at most 65535", socket.port_value()));
  } else if (socket.port_value() == 0 && use != AddressUse::kListen) {
    t.fault(path.field("port_value"), "is 0; a host needs a port from 1 to 65535");
  }
  spec.port = static_cast<uint16_t>(socket.port_value());
}

void pipe_address(const core::Pipe& pipe, AddressUse use, AddressSpec& spec, const FieldPath& path, Translation& t) {
  spec.kind = AddressSpec::Kind::kPipe;
  spec.host = pipe.path();
  spec.mode = pipe.mode();
  if (use == AddressUse::kDnsHost) t.fault(path, "a cluster by DNS cannot have Unix sockets; use type STATIC");
  if (spec.host.empty() || spec.host == "@") t.fault(path.field("path"), "must not be empty");
  if (spec.host.size() > kMaxUnixPathBytes)
    t.fault(path.field("path"), fmt::format("is longer than {} bytes", kMaxUnixPathBytes));
  if (spec.host.find('\0') != std::string::npos)
    t.fault(path.field("path"), "must not contain NUL; write \"@name\" for an abstract socket");
  if (spec.mode > 0777) t.fault(path.field("mode"), fmt::format("is {:#o}, must be at most 0o777", spec.mode));
}

}  // namespace

std::shared_ptr<const FilterPart> FilterInterner::find(const std::string& key) {
  const auto it = parts_.find(key);
  return it == parts_.end() ? nullptr : it->second.lock();
}

void FilterInterner::keep(const std::string& key, const std::shared_ptr<const FilterPart>& part) {
  parts_[key] = part;
  if (parts_.size() < sweep_at_) return;
  std::erase_if(parts_, [](const auto& entry) { return entry.second.expired(); });
  sweep_at_ = std::max<size_t>(64, 2 * parts_.size());
}

uint64_t duration_ms(const google::protobuf::Duration& duration, const FieldPath& path, Translation& t) {
  const int64_t seconds = duration.seconds();
  const int32_t nanos = duration.nanos();
  if (nanos <= -1'000'000'000 || nanos >= 1'000'000'000) {
    t.fault(path, "nanos must be below 1,000,000,000");
    return 0;
  }
  if (seconds < 0 || nanos < 0) {
    t.fault(path, "must not be negative");
    return 0;
  }
  // Rounded up, so that half a millisecond does not become 0, which often means "none".
  const uint64_t part_ms = (static_cast<uint64_t>(nanos) + 999'999) / 1'000'000;
  if (static_cast<uint64_t>(seconds) >= kMaxDurationMs / 1000) {
    t.fault(path, fmt::format("is {} s, must be below {} s (100 years)", seconds, kMaxDurationMs / 1000));
    return 0;
  }
  return static_cast<uint64_t>(seconds) * 1000 + part_ms;
}

FractionSpec fraction_spec(const envoy::type::v3::FractionalPercent& percent) {
  FractionSpec spec;
  switch (percent.denominator()) {
    case envoy::type::v3::FractionalPercent::TEN_THOUSAND:
      spec.denominator = 10'000;
      break;
    case envoy::type::v3::FractionalPercent::MILLION:
      spec.denominator = 1'000'000;
      break;
    default:
      spec.denominator = 100;
  }
  spec.numerator = std::min(percent.numerator(), spec.denominator);
  return spec;
}

FractionSpec runtime_fraction_spec(const core::RuntimeFractionalPercent& fraction, const FieldPath& path,
                                   Translation& t) {
  if (!fraction.has_default_value()) t.fault(path.field("default_value"), "is required");
  return fraction_spec(fraction.default_value());
}

bool check_regex(const std::string& regex, const FieldPath& path, Translation& t) {
  if (t.state.good_regexes.contains(regex)) return true;
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 compiled(regex, options);
  if (!compiled.ok()) {
    t.fault(path, fmt::format("\"{}\" is not a valid RE2 expression: {}", regex, compiled.error()));
    return false;
  }
  if (compiled.ProgramSize() > kMaxRegexProgramSize) {
    t.fault(path, fmt::format("compiles to {} instructions, more than the {} allowed; use a simpler expression",
                              compiled.ProgramSize(), kMaxRegexProgramSize));
    return false;
  }
  if (t.state.good_regexes.size() >= kMaxKnownRegexes) t.state.good_regexes.clear();
  t.state.good_regexes.insert(regex);
  return true;
}

std::string regex_spec(const matcher::RegexMatcher& regex, const FieldPath& path, Translation& t) {
  if (regex.regex().empty())
    t.fault(path.field("regex"), "must not be empty");
  else
    check_regex(regex.regex(), path.field("regex"), t);
  return regex.regex();
}

RegexRewriteSpec regex_rewrite_spec(const matcher::RegexMatchAndSubstitute& rewrite, const FieldPath& path,
                                    Translation& t) {
  RegexRewriteSpec spec;
  if (!rewrite.has_pattern()) {
    t.fault(path.field("pattern"), "is required");
    return spec;
  }
  const size_t errors = t.faults.errors();
  spec.regex = regex_spec(rewrite.pattern(), path.field("pattern"), t);
  spec.substitution = rewrite.substitution();
  if (t.faults.errors() != errors) return spec;
  RE2::Options options;
  options.set_log_errors(false);
  std::string problem;
  if (!RE2(spec.regex, options).CheckRewriteString(spec.substitution, &problem))
    t.fault(path.field("substitution"), fmt::format("does not fit the pattern: {}", problem));
  if (!is_header_value(spec.substitution)) t.fault(path.field("substitution"), "must not contain NUL or line breaks");
  return spec;
}

StringMatchSpec string_match_spec(const matcher::StringMatcher& match, const FieldPath& path, Translation& t) {
  StringMatchSpec spec;
  spec.ignore_case = match.ignore_case();
  const auto part = [&](StringMatchSpec::Kind kind, const std::string& value, std::string_view field) {
    spec.kind = kind;
    spec.value = value;
    if (value.empty()) t.fault(path.field(field), "must not be empty: it would match everything");
  };
  switch (match.match_pattern_case()) {
    case matcher::StringMatcher::kExact:
      spec.value = match.exact();
      break;
    case matcher::StringMatcher::kPrefix:
      part(StringMatchSpec::Kind::kPrefix, match.prefix(), "prefix");
      break;
    case matcher::StringMatcher::kSuffix:
      part(StringMatchSpec::Kind::kSuffix, match.suffix(), "suffix");
      break;
    case matcher::StringMatcher::kContains:
      part(StringMatchSpec::Kind::kContains, match.contains(), "contains");
      break;
    case matcher::StringMatcher::kSafeRegex:
      spec.kind = StringMatchSpec::Kind::kRegex;
      spec.value = regex_spec(match.safe_regex(), path.field("safe_regex"), t);
      spec.ignore_case = false;
      break;
    case matcher::StringMatcher::MATCH_PATTERN_NOT_SET:
      t.fault(path, "needs one of exact, prefix, suffix, contains, safe_regex");
  }
  return spec;
}

std::string header_name_of(const std::string& name, bool pseudo, const FieldPath& path, Translation& t) {
  std::string lower = lower_ascii(name);
  if (lower.empty())
    t.fault(path, "must not be empty");
  else if (!(pseudo ? is_header_or_pseudo_name(lower) : is_header_name(lower)))
    t.fault(path, fmt::format("\"{}\" is not a header name", name));
  // HTTP/2 and this proxy's header maps know the host under one name only.
  if (pseudo && lower == "host") lower = ":authority";
  return lower;
}

void check_header_value(const std::string& value, const FieldPath& path, Translation& t) {
  if (!is_header_value(value)) t.fault(path, "must not contain NUL or line breaks");
  if (value.size() > kMaxHeaderValueBytes) t.fault(path, fmt::format("is longer than {} bytes", kMaxHeaderValueBytes));
}

void check_format(const std::string& format, const FieldPath& path, Translation& t) {
  if (const auto parsed = parse_format(format); !parsed) t.fault(path, parsed.error().detail);
}

HeaderAddSpec header_add_spec(const core::HeaderValueOption& option, const FieldPath& path, Translation& t) {
  using Option = core::HeaderValueOption;
  HeaderAddSpec spec;
  if (!option.has_header()) {
    t.fault(path.field("header"), "is required");
    return spec;
  }
  const FieldPath header = path.field("header");
  const std::string lower = lower_ascii(option.header().key());
  if (lower.starts_with(':') || lower == "host")
    t.fault(header.field("key"), fmt::format("\"{}\" cannot be changed this way; use the route's host, path or "
                                             "prefix rewrite",
                                             option.header().key()));
  else
    header_name_of(lower, false, header.field("key"), t);
  spec.name = lower;
  spec.value = option.header().value();
  check_header_value(spec.value, header.field("value"), t);
  check_format(spec.value, header.field("value"), t);
  spec.keep_empty_value = option.keep_empty_value();
  switch (option.append_action()) {
    case Option::ADD_IF_ABSENT:
      spec.action = HeaderAddSpec::Action::kAddIfAbsent;
      break;
    case Option::OVERWRITE_IF_EXISTS_OR_ADD:
      spec.action = HeaderAddSpec::Action::kOverwriteIfExistsOrAdd;
      break;
    case Option::OVERWRITE_IF_EXISTS:
      spec.action = HeaderAddSpec::Action::kOverwriteIfExists;
      break;
    default:
      spec.action = HeaderAddSpec::Action::kAppendIfExistsOrAdd;
  }
  if (option.has_append()) {
    if (option.append_action() != Option::APPEND_IF_EXISTS_OR_ADD)
      t.fault(path.field("append"), "and append_action exclude each other; remove append, which is deprecated");
    spec.action = option.append().value() ? HeaderAddSpec::Action::kAppendIfExistsOrAdd
                                          : HeaderAddSpec::Action::kOverwriteIfExistsOrAdd;
  }
  return spec;
}

std::string header_remove_name(const std::string& name, const FieldPath& path, Translation& t) {
  std::string lower = lower_ascii(name);
  if (lower.starts_with(':') || lower == "host")
    t.fault(path, fmt::format("\"{}\" cannot be removed", name));
  else
    header_name_of(lower, false, path, t);
  return lower;
}

void add_upgrade(const std::string& type, bool enabled, std::vector<UpgradeSpec>& specs, const FieldPath& path,
                 Translation& t) {
  UpgradeSpec spec{.type = lower_ascii(type), .enabled = enabled};
  const FieldPath at = path.field("upgrade_type");
  if (spec.type.empty()) {
    t.fault(at, "must not be empty");
  } else if (!is_header_name(spec.type)) {
    t.fault(at, fmt::format("\"{}\" is not a token", type));
  }
  for (const UpgradeSpec& other : specs)
    if (other.type == spec.type) t.fault(at, fmt::format("\"{}\" is there already (case does not count)", type));
  specs.push_back(std::move(spec));
}

AddressSpec address_spec(const core::Address& address, AddressUse use, const FieldPath& path, Translation& t) {
  AddressSpec spec;
  switch (address.address_case()) {
    case core::Address::kSocketAddress:
      socket_address(address.socket_address(), use, spec, path.field("socket_address"), t);
      break;
    case core::Address::kPipe:
      pipe_address(address.pipe(), use, spec, path.field("pipe"), t);
      break;
    case core::Address::ADDRESS_NOT_SET:
      t.fault(path, "needs socket_address or pipe");
  }
  return spec;
}

CidrSpec cidr_spec(const core::CidrRange& range, const FieldPath& path, Translation& t) {
  CidrSpec spec;
  const IpVersion version = ip_version(range.address_prefix());
  if (version == IpVersion::kNone) {
    t.fault(path.field("address_prefix"), fmt::format("\"{}\" is not an IPv4 or IPv6 address", range.address_prefix()));
    return spec;
  }
  const uint32_t bits = version == IpVersion::kV4 ? 32 : 128;
  if (range.prefix_len().value() > bits) {
    t.fault(path.field("prefix_len"), fmt::format("is {}, must be at most {}", range.prefix_len().value(), bits));
    return spec;
  }
  spec.length = static_cast<uint8_t>(range.prefix_len().value());
  spec.prefix = masked(range.address_prefix(), version, spec.length);
  return spec;
}

std::string data_source(const core::DataSource& source, size_t max_bytes, const FieldPath& path, Translation& t) {
  std::string content;
  std::string_view field = "inline_string";
  switch (source.specifier_case()) {
    case core::DataSource::kInlineString:
      content = source.inline_string();
      break;
    case core::DataSource::kInlineBytes:
      field = "inline_bytes";
      content = source.inline_bytes();
      break;
    case core::DataSource::kFilename: {
      field = "filename";
      if (source.filename().empty()) {
        t.fault(path.field(field), "must not be empty");
        return {};
      }
      if (t.state.options.files_elsewhere) return {};
      std::string problem;
      content = read_file(source.filename(), max_bytes, problem);
      if (!problem.empty()) {
        t.fault(path.field(field), problem);
        return {};
      }
      break;
    }
    case core::DataSource::kEnvironmentVariable: {
      field = "environment_variable";
      const char* value =
          source.environment_variable().empty() ? nullptr : std::getenv(source.environment_variable().c_str());
      if (value == nullptr) {
        t.fault(path.field(field),
                fmt::format("the environment has no variable \"{}\"", source.environment_variable()));
        return {};
      }
      content = value;
      break;
    }
    case core::DataSource::SPECIFIER_NOT_SET:
      t.fault(path, "needs one of filename, inline_bytes, inline_string, environment_variable");
      return {};
  }
  if (content.size() <= max_bytes) return content;
  t.fault(path.field(field), fmt::format("is longer than the {} bytes allowed", max_bytes));
  return {};
}

}  // namespace outrigger::config
