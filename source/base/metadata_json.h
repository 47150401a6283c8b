// write_json: a metadata value as JSON on one line, without whitespace, keys in order, into anything that has
// append(std::string_view). It allocates nothing itself.
//
// Thread rule: any thread.
// Use:  TextOut out(line, sizeof(line));  write_json(value, out);
#pragma once

#include <charconv>
#include <cmath>

#include "outrigger/metadata.h"

namespace outrigger {

template <class Out>
void write_json_text(std::string_view text, Out& out) {
  out.append(std::string_view("\""));
  size_t plain = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
    out.append(text.substr(plain, i - plain));
    plain = i + 1;
    if (c == '"' || c == '\\') {
      const char escaped[] = {'\\', text[i]};
      out.append(std::string_view(escaped, sizeof(escaped)));
    } else {
      const char* const digits = "0123456789abcdef";
      const char escaped[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
      out.append(std::string_view(escaped, sizeof(escaped)));
    }
  }
  out.append(text.substr(plain));
  out.append(std::string_view("\""));
}

template <class Out>
void write_json_number(double number, Out& out) {
  char digits[32];
  constexpr double kExact = 9'007'199'254'740'992;  // whole numbers up to here are written without an exponent
  const auto end = number == std::trunc(number) && std::fabs(number) <= kExact
                       ? std::to_chars(digits, digits + sizeof(digits), static_cast<long long>(number)).ptr
                       : std::to_chars(digits, digits + sizeof(digits), number).ptr;
  out.append(std::string_view(digits, static_cast<size_t>(end - digits)));
}

template <class Out>
void write_json(const MetadataValue& value, Out& out);

template <class Out>
void write_json(const MetadataValue::Struct& fields, Out& out) {
  std::string_view before = "{";
  for (const MetadataField& field : fields) {
    out.append(before);
    before = ",";
    write_json_text(field.key, out);
    out.append(std::string_view(":"));
    write_json(field.value, out);
  }
  out.append(std::string_view(fields.empty() ? "{}" : "}"));
}

template <class Out>
void write_json(const MetadataValue& value, Out& out) {
  if (const auto* fields = value.fields()) {
    write_json(*fields, out);
  } else if (const auto* list = value.list()) {
    std::string_view before = "[";
    for (const MetadataValue& one : *list) {
      out.append(before);
      before = ",";
      write_json(one, out);
    }
    out.append(std::string_view(list->empty() ? "[]" : "]"));
  } else if (const auto* text = value.text()) {
    write_json_text(*text, out);
  } else if (const auto* number = std::get_if<double>(&value.of)) {
    write_json_number(*number, out);
  } else if (const auto* flag = std::get_if<bool>(&value.of)) {
    out.append(std::string_view(*flag ? "true" : "false"));
  } else {
    out.append(std::string_view("null"));
  }
}

}  // namespace outrigger
