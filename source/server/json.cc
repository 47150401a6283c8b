#include "server/json.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace outrigger::server {
namespace {

// Length of the UTF-8 sequence at the front of `text`; 0: there is none.
size_t utf8_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  uint32_t code = first & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return 0;
    code = code << 6 | (next & 0x3f);
  }
  const uint32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  return code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? 0 : length;
}

}  // namespace

void append_json_string(std::string& out, std::string_view value) {
  out += '"';
  for (size_t i = 0; i < value.size();) {
    const char c = value[i];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
    } else if (const size_t length = utf8_length(value.substr(i)); length > 0) {
      out += value.substr(i, length);
      i += length;
      continue;
    } else {
      out += "\\ufffd";
    }
    ++i;
  }
  out += '"';
}

void JsonWriter::newline() {
  text_ += '\n';
  text_.append(static_cast<size_t>(depth_), ' ');
}

void JsonWriter::value() {
  if (std::exchange(after_key_, false)) return;
  if (depth_ == 0) return;
  if (!std::exchange(first_, false)) text_ += ',';
  newline();
}

JsonWriter& JsonWriter::open(char bracket) {
  value();
  text_ += bracket;
  ++depth_;
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  --depth_;
  if (!first_) newline();
  text_ += bracket;
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  value();
  append_json_string(text_, name);
  text_ += ": ";
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::string(std::string_view text) {
  value();
  append_json_string(text_, text);
  return *this;
}

JsonWriter& JsonWriter::number(int64_t n) {
  value();
  text_ += std::to_string(n);
  return *this;
}

JsonWriter& JsonWriter::number(uint64_t n) {
  value();
  text_ += std::to_string(n);
  return *this;
}

JsonWriter& JsonWriter::real(double n) {
  value();
  text_ += std::isfinite(n) ? fmt::format("{:.6g}", n) : "null";
  return *this;
}

JsonWriter& JsonWriter::boolean(bool b) {
  value();
  text_ += b ? "true" : "false";
  return *this;
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  value();
  text_ += json;
  return *this;
}

std::string JsonWriter::take_piece() { return std::exchange(text_, {}); }

}  // namespace outrigger::server
