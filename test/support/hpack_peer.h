// Another HPACK, nghttp2's, to hold ours against.
//
// Thread rule: one thread.
// Use:  hpack::Inflater inflater;  hpack::Fields fields;  inflater.take(block, fields);
//       hpack::Deflater deflater;  std::string block = deflater.section({{"a", "b"}});
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace outrigger::test::hpack {

using Fields = std::vector<std::pair<std::string, std::string>>;

class Inflater {
 public:
  Inflater() { nghttp2_hd_inflate_new(&inflater_); }
  ~Inflater() { nghttp2_hd_inflate_del(inflater_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // What our SETTINGS allow the other side.
  void set_limit(size_t bytes) { nghttp2_hd_inflate_change_table_size(inflater_, bytes); }
  // One whole section; false: it is none. `never`: those that must not be indexed.
  bool take(std::string_view block, Fields& fields, Fields* never = nullptr) {
    auto* at = reinterpret_cast<const uint8_t*>(block.data());
    size_t left = block.size();
    for (;;) {
      nghttp2_nv nv;
      int flags = 0;
      const ssize_t n = nghttp2_hd_inflate_hd2(inflater_, &nv, &flags, at, left, 1);
      if (n < 0) return false;
      at += n;
      left -= static_cast<size_t>(n);
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
        fields.emplace_back(std::string(reinterpret_cast<char*>(nv.name), nv.namelen),
                            std::string(reinterpret_cast<char*>(nv.value), nv.valuelen));
        if (never != nullptr && (nv.flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0) never->push_back(fields.back());
      }
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) break;
      if (n == 0 && (flags & NGHTTP2_HD_INFLATE_EMIT) == 0) return false;
    }
    nghttp2_hd_inflate_end_headers(inflater_);
    return true;
  }
  size_t table_entries() const { return nghttp2_hd_inflate_get_num_table_entries(inflater_) - 61; }

 private:
  nghttp2_hd_inflater* inflater_ = nullptr;
};

class Deflater {
 public:
  Deflater() { nghttp2_hd_deflate_new(&deflater_, 4096); }
  ~Deflater() { nghttp2_hd_deflate_del(deflater_); }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;

  void set_limit(size_t bytes) { nghttp2_hd_deflate_change_table_size(deflater_, bytes); }
  std::string section(const Fields& fields) {
    std::vector<nghttp2_nv> list;
    for (const auto& [name, value] : fields)
      list.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                      reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                      NGHTTP2_NV_FLAG_NONE});
    std::string out(nghttp2_hd_deflate_bound(deflater_, list.data(), list.size()), '\0');
    const ssize_t size =
        nghttp2_hd_deflate_hd(deflater_, reinterpret_cast<uint8_t*>(out.data()), out.size(), list.data(), list.size());
    out.resize(size < 0 ? 0 : static_cast<size_t>(size));
    return out;
  }

 private:
  nghttp2_hd_deflater* deflater_ = nullptr;
};

}  // namespace outrigger::test::hpack
