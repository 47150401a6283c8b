// Access logs: where the lines go and what is in them.
#include <fmt/format.h>
#include <google/protobuf/struct.pb.h>

#include <algorithm>

#include "config/any.h"
#include "config/format.h"
#include "config/translation.h"
#include "envoy/config/accesslog/v3/accesslog.pb.h"
#include "envoy/config/core/v3/substitution_format_string.pb.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;

namespace {

using envoy::extensions::access_loggers::file::v3::FileAccessLog;
using envoy::extensions::access_loggers::stream::v3::StderrAccessLog;
using envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;

void text_format(const std::string& format, const FieldPath& path, AccessLogSpec& spec, Translation& t) {
  spec.format = format;
  if (format.empty())
    t.fault(path, "must not be empty; leave the format out for the default one");
  else
    check_format(format, path, t);
}

void log_format(const core::SubstitutionFormatString& format, const FieldPath& path, AccessLogSpec& spec,
                Translation& t) {
  using Format = core::SubstitutionFormatString;
  spec.omit_empty_values = format.omit_empty_values();
  switch (format.format_case()) {
    case Format::kTextFormat:
      text_format(format.text_format(), path.field("text_format"), spec, t);
      break;
    case Format::kTextFormatSource: {
      const size_t errors = t.faults.errors();
      const FieldPath at = path.field("text_format_source");
      const std::string text = data_source(format.text_format_source(), kMaxFormatFileBytes, at, t);
      if (t.faults.errors() == errors) text_format(text, at, spec, t);
      break;
    }
    case Format::kJsonFormat: {
      const FieldPath at = path.field("json_format");
      for (const auto& [key, value] : format.json_format().fields()) {
        const FieldPath entry = at.key(key);
        if (value.kind_case() != google::protobuf::Value::kStringValue)
          t.fault(entry, "must be a string; nested objects, numbers and lists are not supported");
        else
          check_format(value.string_value(), entry, t);
        spec.json_format.emplace_back(key, value.string_value());
      }
      std::sort(spec.json_format.begin(), spec.json_format.end());
      if (spec.json_format.empty()) t.fault(at, "must not be empty");
      break;
    }
    case Format::FORMAT_NOT_SET:
      t.fault(path, "needs one of text_format, text_format_source, json_format");
  }
}

template <class Log>
void stream_log(AccessLogSpec::Sink sink, const google::protobuf::Any& any, AccessLogSpec& spec, const FieldPath& path,
                Translation& t) {
  Log log;
  spec.sink = sink;
  if (!unpack_to(any, log, path, t.faults)) return;
  check_field_use(log, path, t.faults);
  if (log.has_log_format()) log_format(log.log_format(), path.field("log_format"), spec, t);
}

void file_log(const google::protobuf::Any& any, AccessLogSpec& spec, const FieldPath& path, Translation& t) {
  FileAccessLog log;
  if (!unpack_to(any, log, path, t.faults)) return;
  check_field_use(log, path, t.faults);
  // A container's /dev/stdout may be a pipe that cannot be opened by name; the descriptor always works.
  if (log.path() == "/dev/stdout")
    spec.sink = AccessLogSpec::Sink::kStdout;
  else if (log.path() == "/dev/stderr")
    spec.sink = AccessLogSpec::Sink::kStderr;
  else if (log.path().empty())
    t.fault(path.field("path"), "must not be empty");
  else
    spec.path = log.path();
  if (log.has_log_format())
    log_format(log.log_format(), path.field("log_format"), spec, t);
  else if (!log.format().empty())
    text_format(log.format(), path.field("format"), spec, t);
}

}  // namespace

std::optional<AccessLogSpec> access_log_spec(const envoy::config::accesslog::v3::AccessLog& log, const FieldPath& path,
                                             Translation& t) {
  AccessLogSpec spec;
  const FieldPath at = path.field("typed_config");
  if (log.config_type_case() != envoy::config::accesslog::v3::AccessLog::kTypedConfig) {
    t.fault(at, "is required");
    return std::nullopt;
  }
  const std::string_view type = type_name(log.typed_config());
  if (type == FileAccessLog::descriptor()->full_name()) {
    file_log(log.typed_config(), spec, at, t);
  } else if (type == StdoutAccessLog::descriptor()->full_name()) {
    stream_log<StdoutAccessLog>(AccessLogSpec::Sink::kStdout, log.typed_config(), spec, at, t);
  } else if (type == StderrAccessLog::descriptor()->full_name()) {
    stream_log<StderrAccessLog>(AccessLogSpec::Sink::kStderr, log.typed_config(), spec, at, t);
  } else {
    const std::string message =
        fmt::format("type {} is not an access logger that this program has; it has {}, {}, {}", type,
                    FileAccessLog::descriptor()->full_name(), StdoutAccessLog::descriptor()->full_name(),
                    StderrAccessLog::descriptor()->full_name());
    if (t.state.options.unknown_fields == UnknownFields::kWarn)
      t.faults.warn(at, message + "; skipped");
    else
      t.fault(at, message);
    return std::nullopt;
  }
  return spec;
}

}  // namespace outrigger::config
