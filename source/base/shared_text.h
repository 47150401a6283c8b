// SharedText: an immutable string whose copies share it.
//
// Thread rule: a value; the text may be read from any thread.
// Use:  SharedText bytes(std::move(string));  SharedText same = bytes;  same.text().size()
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace outrigger {

class SharedText {
 public:
  SharedText() = default;
  SharedText(std::string text)  // NOLINT: a string is one
      : text_(text.empty() ? nullptr : std::make_shared<const std::string>(std::move(text))) {}
  const std::string& text() const {
    static const std::string kEmpty;
    return text_ == nullptr ? kEmpty : *text_;
  }
  operator const std::string&() const { return text(); }  // NOLINT: likewise
  bool empty() const { return text_ == nullptr; }
  bool operator==(std::string_view other) const { return text() == other; }
  bool operator==(const SharedText& other) const { return text_ == other.text_ || text() == other.text(); }

 private:
  std::shared_ptr<const std::string> text_;
};

}  // namespace outrigger
