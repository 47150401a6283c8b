// FoldedText: a text's ASCII letters in lower case, in a buffer on the stack (or a per-thread one if it is long, of
// which one may be in use at a time).
//
// Thread rule: a local variable.
// Use:  FoldedText folded(path);  map.exact(folded.view());
#pragma once

#include <string>
#include <string_view>

namespace outrigger::route {

inline char fold(char c) { return static_cast<char>(c + ((c >= 'A' && c <= 'Z') ? 32 : 0)); }

inline std::string folded(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = fold(c);
  return out;
}

class FoldedText {
 public:
  explicit FoldedText(std::string_view text, bool reversed = false) {
    char* out = inline_;
    if (text.size() > sizeof(inline_)) {
      thread_local std::string overflow;
      overflow.resize(text.size());
      out = overflow.data();
    }
    if (reversed) {
      for (size_t i = 0; i < text.size(); ++i) out[i] = fold(text[text.size() - 1 - i]);
    } else {
      for (size_t i = 0; i < text.size(); ++i) out[i] = fold(text[i]);
    }
    view_ = {out, text.size()};
  }
  FoldedText(const FoldedText&) = delete;
  FoldedText& operator=(const FoldedText&) = delete;
  std::string_view view() const { return view_; }

 private:
  char inline_[512];
  std::string_view view_;
};

}  // namespace outrigger::route
