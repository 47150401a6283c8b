// HPACK against another one, nghttp2's. What ours takes, the other takes, and both read the same; what is read and
// written again is the same to both. The first byte chooses the size of the parts, the second the table's limit.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "http/h1_scan.h"
#include "http/hpack.h"
#include "support/hpack_peer.h"

namespace {

using namespace outrigger::http;  // NOLINT
using outrigger::find_header_id;
using outrigger::test::hpack::Fields;
using outrigger::test::hpack::Inflater;

// What is there, decoded in parts; whether all of it was.
bool decode(HpackDecoder& decoder, std::string_view block, size_t step, Fields& fields) {
  decoder.begin();
  size_t begin = 0;
  for (size_t end = 0; end < block.size();) {
    end = std::min(block.size(), end + step);
    const std::vector<uint8_t> part(block.begin() + static_cast<ptrdiff_t>(begin),
                                    block.begin() + static_cast<ptrdiff_t>(end));
    const uint8_t* at = part.data();
    HpackField field;
    HpackDecoder::Got got;
    while ((got = decoder.next(at, part.data() + part.size(), field)) == HpackDecoder::Got::kField)
      fields.emplace_back(field.name, field.value);
    if (got == HpackDecoder::Got::kError || (got == HpackDecoder::Got::kMore && end == block.size())) return false;
    begin += static_cast<size_t>(at - part.data());
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t step = data[0] == 0 ? size : data[0];
  HpackDecoder decoder, whole;
  Inflater inflater, again;
  HpackEncoder encoder;
  HpackOutput out;
  encoder.set_limit(16u * data[1]);
  again.set_limit(16u * data[1]);
  std::string_view rest(reinterpret_cast<const char*>(data + 2), size - 2);
  while (rest.size() >= 2) {  // sections, each behind its length in two bytes
    const size_t said = static_cast<size_t>(static_cast<uint8_t>(rest[0])) << 8 | static_cast<uint8_t>(rest[1]);
    const size_t length = std::min(rest.size() - 2, said);
    const std::string_view block = rest.substr(2, length);
    rest.remove_prefix(2 + length);
    Fields in_parts, at_once, others, back;
    const bool good = decode(decoder, block, step, in_parts);
    if (decode(whole, block, size, at_once) != good || (good && at_once != in_parts)) std::abort();
    if (!good) return 0;
    if (!inflater.take(block, others) || others != in_parts) std::abort();
    out.clear();
    encoder.begin(out);
    for (const auto& [name, value] : in_parts) encoder.add(out, find_header_id(name), name, value);
    for (auto& [name, value] : in_parts) std::replace_if(value.begin(), value.end(), is_control, ' ');
    if (!again.take({out.data(), out.size()}, back) || back != in_parts) std::abort();
  }
  return 0;
}
