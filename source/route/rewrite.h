// What becomes of a request's path and host when it is forwarded, and where a redirect points to. Pure functions; text
// is written into the arena that is given. Control characters never come out of them: in a URL each becomes %XX, so no
// value can break out of its header field.
//
// Thread rule: any worker.
// Use:  finalize_request(match, headers, context, true);   std::string_view to = redirect_location(match, headers,
// tls);
#pragma once

#include <string_view>

#include "outrigger/header_map.h"
#include "route/route_table.h"

namespace outrigger::route {

// The path (with query) after the route's prefix_rewrite or regex_rewrite; `path` itself if there is none, or if the
// path no longer matches the route's pattern (a filter changed it). data() == nullptr: the arena is full.
std::string_view rewritten_path(const Route& route, std::string_view path, Arena& arena);

// RE2::GlobalReplace of every match in `text`, into the arena.
std::string_view regex_replace_all(const RegexRewrite& rewrite, std::string_view text, Arena& arena);

// Envoy's order of finalising a request that will be forwarded: header mutations of all levels, host_rewrite_literal or
// host_rewrite_header (appending x-forwarded-host if configured), path rewrite. With `insert_original_path` a changed
// path is kept in x-envoy-original-path. auto_host_rewrite is the router's, with rewrite_host, once it knows the host.
void finalize_request(const Match& match, HeaderMap& request, const FormatContext& context, bool insert_original_path);

// Sets :authority; with `append_forwarded_host` the old one is first appended to x-forwarded-host (once).
void rewrite_host(HeaderMap& request, std::string_view host, bool append_forwarded_host);

// "shop.example:80" -> "shop.example-shadow:80", the host of a mirrored request. data() == nullptr: the arena is full.
std::string_view shadow_host(std::string_view host, Arena& arena);

// The value of "location" for a redirect route (CHECK: it is one). `tls`: as in MatchContext.
std::string_view redirect_location(const Match& match, const HeaderMap& request, bool tls, Arena& arena);

}  // namespace outrigger::route
