#include "route/rewrite.h"

#include <re2/re2.h>

#include <algorithm>

#include "base/check.h"
#include "config/matchers.h"
#include "route/folded_text.h"
#include "route/formatter.h"
#include "route/route_table_impl.h"

namespace outrigger::route {
namespace {

std::string_view just_path(std::string_view path) {
  path = path.substr(0, path.find('?'));
  return path.substr(0, path.find('#'));
}

bool breaks_url(char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; }

// Control characters and spaces as %XX.
void append_url(TextOut& out, std::string_view text) {
  while (!text.empty()) {
    const auto bad = std::find_if(text.begin(), text.end(), breaks_url);
    out.append({text.data(), static_cast<size_t>(bad - text.begin())});
    if (bad == text.end()) return;
    const auto byte = static_cast<unsigned char>(*bad);
    const char encoded[] = {'%', "0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15]};
    out.append({encoded, sizeof(encoded)});
    text.remove_prefix(static_cast<size_t>(bad - text.begin()) + 1);
  }
}

std::string_view finished(const TextOut& out) { return out.truncated() ? std::string_view() : out.view(); }

bool starts_with(std::string_view text, std::string_view prefix, bool case_sensitive) {
  if (case_sensitive) return text.starts_with(prefix);
  return text.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), text.begin(), [](char a, char b) { return fold(a) == fold(b); });
}

// How much of `path` the route's pattern stands for; npos if it no longer matches.
size_t matched_size(const Route& route, std::string_view path) {
  if (route.path_kind() == config::PathMatchSpec::Kind::kRegex) return just_path(path).size();
  return starts_with(path, route.path_pattern(), route.case_sensitive()) ? route.path_pattern().size()
                                                                         : std::string_view::npos;
}

// The length of the UTF-8 sequence that `text` starts with; 0 if it is none.
size_t rune_size(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const size_t size = byte(0) < 0x80                      ? 1
                      : byte(0) >= 0xc2 && byte(0) < 0xe0 ? 2
                      : (byte(0) & 0xf0) == 0xe0          ? 3
                      : byte(0) >= 0xf0 && byte(0) < 0xf5 ? 4
                                                          : 0;
  if (size == 0 || size > text.size()) return 0;
  for (size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if (size == 3 && byte(0) == 0xe0 && byte(1) < 0xa0) return 0;
  if (size == 4 && ((byte(0) == 0xf0 && byte(1) < 0x90) || (byte(0) == 0xf4 && byte(1) > 0x8f))) return 0;
  return size;
}

// The authority for a redirect: without its port if a new one is given, or if it is the default port of the scheme that
// the redirect leaves.
std::string_view redirect_host(std::string_view host, std::string_view new_scheme, bool new_port, bool tls) {
  size_t colon = host.rfind(':');
  if (host.starts_with('[')) {
    const size_t bracket = host.rfind("]:");
    colon = bracket == std::string_view::npos ? bracket : bracket + 1;
  }
  if (colon == std::string_view::npos) return host;
  const std::string_view port = host.substr(colon);
  const bool leaves_default = new_scheme != (tls ? "https" : "http") && port == (tls ? ":443" : ":80");
  return new_port || leaves_default ? host.substr(0, colon) : host;
}

}  // namespace

std::string_view regex_replace_all(const RegexRewrite& rewrite, std::string_view text, Arena& arena) {
  constexpr int kGroups = 10;
  const re2::RE2& re = rewrite.regex->re2();
  re2::StringPiece groups[kGroups];
  const int used = 1 + re2::RE2::MaxSubmatch(rewrite.substitution);
  CHECK(used <= kGroups && used <= 1 + re.NumberOfCapturingGroups());
  TextOut out(arena);
  const char* at = text.data();
  const char* const end = at + text.size();
  const char* last_end = nullptr;
  while (at <= end) {
    const auto from = static_cast<size_t>(at - text.data());
    if (!re.Match(text, from, text.size(), re2::RE2::UNANCHORED, groups, used)) break;
    out.append({at, static_cast<size_t>(groups[0].data() - at)});
    if (groups[0].data() == last_end && groups[0].empty()) {
      // No empty match right behind the last one: a whole character goes on unchanged.
      if (at == end) break;
      const size_t size = std::max<size_t>(1, rune_size({at, static_cast<size_t>(end - at)}));
      out.append({at, size});
      at += size;
      continue;
    }
    for (size_t i = 0; i < rewrite.substitution.size(); ++i) {
      const char c = rewrite.substitution[i];
      if (c != '\\' || i + 1 == rewrite.substitution.size()) {
        out.append(c);
        continue;
      }
      const char next = rewrite.substitution[++i];
      if (next >= '0' && next <= '9') {
        out.append(std::string_view(groups[next - '0'].data(), groups[next - '0'].size()));
      } else {
        out.append(next);
      }
    }
    at = groups[0].data() + groups[0].size();
    last_end = at;
  }
  if (at < end) out.append({at, static_cast<size_t>(end - at)});
  if (out.truncated()) return {};
  return out.size() == 0 ? std::string_view("", 0) : out.view();
}

std::string_view rewritten_path(const Route& route, std::string_view path, Arena& arena) {
  std::string_view prefix;
  const RegexRewrite* regex = nullptr;
  if (const ForwardAction* forward = route.forward(); forward != nullptr) {
    prefix = forward->prefix_rewrite;
    regex = forward->regex_rewrite;
  } else if (const RedirectAction* redirect = route.redirect(); redirect != nullptr) {
    prefix = redirect->prefix_rewrite;
    regex = redirect->regex_rewrite;
  }
  if (prefix.empty() && regex == nullptr) return path;

  size_t replaced = just_path(path).size();
  std::string_view replacement = prefix;
  if (!prefix.empty()) {
    replaced = matched_size(route, path);
    if (replaced == std::string_view::npos) return path;
  } else {
    replacement = regex_replace_all(*regex, path.substr(0, replaced), arena);
    if (replacement.data() == nullptr) return {};
  }
  TextOut out(arena);
  const std::string_view rest = path.substr(replaced);
  if (!(replacement.empty() ? rest : replacement).starts_with('/')) out.append('/');
  append_url(out, replacement);
  append_url(out, rest);
  return finished(out);
}

void rewrite_host(HeaderMap& request, std::string_view host, bool append_forwarded_host) {
  const std::string_view old = request.get(HeaderId::kAuthority);
  if (append_forwarded_host && !old.empty()) {
    // Once only: not if the last one in the list is this host already.
    const std::string_view list = config::joined_header(request, header_name(HeaderId::kXForwardedHost)).value_or("");
    const size_t comma = list.rfind(',');
    if (list.substr(comma == std::string_view::npos ? 0 : comma + 1) != old) {
      TextOut out(request.arena());
      if (!list.empty()) {
        out.append(list);
        out.append(',');
      }
      out.append(old);
      if (out.truncated()) return request.mark_overflowed();
      request.set_view(HeaderId::kXForwardedHost, out.view());
    }
  }
  request.set(HeaderId::kAuthority, host);
}

void finalize_request(const Match& match, HeaderMap& request, const FormatContext& context, bool insert_original_path) {
  const ForwardAction* action = match.route == nullptr ? nullptr : match.route->forward();
  if (action == nullptr) return;
  match.mutate_request(request, context);

  std::string_view host = action->host_rewrite_literal;
  if (host.empty() && !action->host_rewrite_header.empty()) host = request.get(action->host_rewrite_header);
  if (!host.empty()) rewrite_host(request, host, action->append_x_forwarded_host);

  if (action->prefix_rewrite.empty() && action->regex_rewrite == nullptr) return;
  const std::string_view path = request.get(HeaderId::kPath);
  if (path.empty()) return;  // CONNECT
  const std::string_view rewritten = rewritten_path(*match.route, path, request.arena());
  if (rewritten.data() == nullptr) return request.mark_overflowed();
  if (rewritten.data() == path.data()) return;
  if (insert_original_path) request.set_view(HeaderId::kXEnvoyOriginalPath, path);
  request.set_view(HeaderId::kPath, rewritten);
}

std::string_view shadow_host(std::string_view host, Arena& arena) {
  constexpr std::string_view kShadow = "-shadow";
  const std::string_view name = without_port(host);
  char* at = static_cast<char*>(arena.try_allocate(host.size() + kShadow.size(), 1));
  if (at == nullptr) return {};
  char* end = std::copy(name.begin(), name.end(), at);
  end = std::copy(kShadow.begin(), kShadow.end(), end);
  end = std::copy(host.begin() + static_cast<ptrdiff_t>(name.size()), host.end(), end);
  return {at, end};
}

std::string_view redirect_location(const Match& match, const HeaderMap& request, bool tls, Arena& arena) {
  CHECK(match.route != nullptr && match.route->redirect() != nullptr);
  const RedirectAction& redirect = *match.route->redirect();
  std::string_view scheme = redirect.scheme;
  if (scheme.empty()) scheme = request.get(HeaderId::kScheme);
  if (scheme.empty()) scheme = tls ? "https" : "http";
  std::string_view host = redirect.host;
  if (host.empty()) {
    host = request.get(HeaderId::kAuthority);
    if (!match.route->tls_redirect()) host = redirect_host(host, scheme, redirect.port != 0, tls);
  }
  std::string_view path = rewritten_path(*match.route, request.get(HeaderId::kPath), arena);
  if (path.data() == nullptr) path = "/";
  std::string_view query = path.find('?') == std::string_view::npos ? std::string_view() : path.substr(path.find('?'));
  path = path.substr(0, path.size() - query.size());
  const bool own_query = redirect.path.find('?') != std::string_view::npos;
  if (!redirect.path.empty()) path = redirect.path;
  if (own_query || redirect.strip_query) query = {};

  TextOut out(arena);
  append_url(out, scheme);
  out.append("://");
  append_url(out, host);
  if (redirect.port != 0) {
    out.append(':');
    out.append_number(redirect.port);
  }
  if (!path.starts_with('/')) out.append('/');
  append_url(out, path);
  append_url(out, query);
  return finished(out);
}

}  // namespace outrigger::route
