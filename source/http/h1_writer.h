// HeadWriter: serialises an HTTP/1 head straight into a Buffer's reserved memory, with no text in between. It is the
// last line of defence against response splitting: CR, LF and other control bytes in a value become spaces (RFC 9110
// section 5.5), and a field whose name is no token is left out.
//
// Thread rule: the buffer's thread. While one writes, nothing else may touch the buffer.
// Use:  HeadWriter w(connection.output());  w.text("HTTP/1.1 200 OK\r\n");  w.field(header);  w.finish();
#pragma once

#include <cstring>
#include <string_view>

#include "outrigger/buffer.h"
#include "outrigger/header_map.h"

namespace outrigger::http {

class HeadWriter {
 public:
  // `expected`: bytes that the head will have, about; more is never wrong.
  HeadWriter(Buffer& out, size_t expected) : out_(out) { refill(expected); }
  HeadWriter(const HeadWriter&) = delete;
  HeadWriter& operator=(const HeadWriter&) = delete;
  ~HeadWriter() { finish(); }

  // Trusted text as it is.
  void text(std::string_view trusted) {
    if (trusted.size() > Buffer::kMaxReserve / 2) return long_value(trusted);
    need(trusted.size());
    std::memcpy(at_, trusted.data(), trusted.size());
    at_ += trusted.size();
  }
  void number(uint64_t value);
  // name ": " value CRLF
  void field(const Header& header) { field(header.name, header.id != HeaderId::kNone, header.value); }
  void field(std::string_view name, bool name_known, std::string_view value);
  void content_length(uint64_t bytes) {
    text("content-length: ");
    number(bytes);
    text("\r\n");
  }
  // Commits what was written. Nothing may be written afterwards.
  void finish() {
    if (begin_ != nullptr) out_.commit(static_cast<size_t>(at_ - begin_));
    begin_ = at_ = end_ = nullptr;
  }

 private:
  void need(size_t bytes) {
    if (static_cast<size_t>(end_ - at_) < bytes) [[unlikely]]
      refill(bytes);
  }
  void refill(size_t bytes);
  void long_value(std::string_view value);

  Buffer& out_;
  char* begin_ = nullptr;
  char* at_ = nullptr;
  char* end_ = nullptr;
};

// Copies `size` bytes; false if there was a control byte among them (they are copied all the same).
bool copy_and_check(char* to, const char* from, size_t size);

// "200 OK\r\n" and the like for the usual codes, empty for the others.
std::string_view status_line_end(uint16_t status);

}  // namespace outrigger::http
