// JsonWriter: JSON text, written front to back.
//
// Thread rule: value.
// Use:  JsonWriter json;  json.open('{').key("name").string("a").key("n").number(1).close('}');  json.take();
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger::server {

class JsonWriter {
 public:
  JsonWriter& open(char bracket);   // '{' or '['
  JsonWriter& close(char bracket);  // '}' or ']'
  JsonWriter& key(std::string_view name);
  JsonWriter& string(std::string_view value);  // bytes that are not UTF-8 become U+FFFD
  JsonWriter& number(int64_t value);
  JsonWriter& number(uint64_t value);
  JsonWriter& number(uint32_t value) { return number(uint64_t{value}); }
  JsonWriter& real(double value);  // what is not finite becomes null
  JsonWriter& boolean(bool value);
  JsonWriter& raw(std::string_view json);  // a value that is JSON already

  std::string take() { return std::move(text_); }
  // What was written since the last call; the structure goes on.
  std::string take_piece();

 private:
  void value();
  void newline();
  std::string text_;
  int depth_ = 0;
  bool first_ = true;  // no element yet at this depth
  bool after_key_ = false;
};

void append_json_string(std::string& out, std::string_view value);

}  // namespace outrigger::server
