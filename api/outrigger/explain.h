// ExplainRequest, FilterExplanation: what a filter would say to a request, told without doing it: nothing is charged,
// counted, logged, sent or answered.
//
// Thread rule: FilterConfig::explain on any thread but a worker.
// Use:  FilterExplanation e = config.explain(request);  if (e.verdict == FilterExplanation::Verdict::kRefuses) ...
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "outrigger/arena.h"
#include "outrigger/header_map.h"
#include "outrigger/stream_info.h"

namespace outrigger {

class FilterPart;

struct ExplainRequest {
  HeaderMap& headers;  // as the filters before left them; what the filter would change of them it changes
  StreamInfo& info;    // likewise
  Arena& arena;
  const FilterPart* route_config = nullptr;  // the most specific one, as StreamHandle::route_config
  const void* route = nullptr;               // as StreamHandle::route
  int64_t now_ns = 0;
  uint64_t random = 0;
};

struct FilterExplanation {
  enum class Verdict : uint8_t { kPasses, kRefuses, kDepends, kUnknown };
  Verdict verdict = Verdict::kUnknown;
  uint16_t status = 0;                                          // of a refusal
  std::string reason;                                           // never a secret
  std::vector<std::pair<std::string, std::string>> facts = {};  // what it knows beside, in the order to be read
};

}  // namespace outrigger
