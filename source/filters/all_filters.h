// all_filters: every HTTP filter that this program has, listed by hand. The proxy and the control plane's validation
// use the same list, so that what passes here is accepted there.
//
// Thread rule: any thread.
// Use:  config::Translator translator(filters::all_filters(), states, stats, {});
#pragma once

#include <span>

#include "config/extension.h"

namespace outrigger::filters {

std::span<const config::FilterType> all_filters();

}  // namespace outrigger::filters
