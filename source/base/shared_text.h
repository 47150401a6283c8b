// SharedText: an immutable string whose copies share it; 8 bytes while it is empty.
//
// Thread rule: a value; the text may be read from any thread.
// Use:  SharedText bytes(std::move(string));  SharedText same = bytes;  same.text().size()
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/by_value.h"

namespace outrigger {

class SharedText {
 public:
  SharedText() = default;
  SharedText(std::string text)  // NOLINT: a string is one
      : text_(text.empty() ? ByValue<std::string>() : ByValue<std::string>(std::move(text))) {}
  const std::string& text() const {
    static const std::string kEmpty;
    return text_ ? *text_ : kEmpty;
  }
  operator const std::string&() const { return text(); }  // NOLINT: likewise
  bool empty() const { return !text_; }
  bool operator==(std::string_view other) const { return text() == other; }
  bool operator==(const SharedText&) const = default;

 private:
  ByValue<std::string> text_;
};

}  // namespace outrigger
