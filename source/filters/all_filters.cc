#include "filters/all_filters.h"

#include "filters/api_key_auth/api_key_auth.h"
#include "filters/grpc_stats/grpc_stats.h"
#include "filters/grpc_web/grpc_web.h"
#include "filters/local_ratelimit/local_ratelimit.h"

namespace outrigger::filters {

std::span<const config::FilterType> all_filters() {
  static const config::FilterType filters[] = {
      api_key_auth_filter_type(),
      grpc_stats_filter_type(),
      grpc_web_filter_type(),
      local_ratelimit_filter_type(),
  };
  return filters;
}

}  // namespace outrigger::filters
