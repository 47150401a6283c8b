#include "control/control_plane.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "admin/admin_server.h"
#include "base/log.h"
#include "config/extension.h"
#include "config/names.h"
#include "config/translate.h"
#include "control/directory_source.h"
#include "control/line_budget.h"
#include "control/metrics.h"
#include "control/server_credentials.h"
#include "control/token_file.h"
#include "event/clock.h"
#include "event/file_watch.h"
#include "event/loop.h"
#include "event/timer.h"
#include "filters/all_filters.h"
#include "outrigger/control/ads_server.h"
#include "outrigger/control/consistency.h"
#include "outrigger/control/groups.h"
#include "stats/stats.h"

namespace outrigger::control {
namespace {

constexpr uint64_t kTryAgainMs = 1'000;

// What a client sent, fit for one line of the log.
std::string one_line(std::string_view text) {
  constexpr size_t kMaxBytes = 4096;
  std::string line(text.substr(0, kMaxBytes));
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (text.size() > kMaxBytes) line += fmt::format(" ... ({} bytes)", text.size());
  return line;
}

std::string who(const ClientInfo& client) {
  return fmt::format("node \"{}\" (cluster \"{}\", {}, stream {})", one_line(client.node_id),
                     one_line(client.node_cluster), client.peer, client.stream_id);
}

// Of which group a client is; the rules may change at any time.
class Grouping {
 public:
  void set(std::vector<GroupRule> rules) {
    auto made = std::make_shared<const std::vector<GroupRule>>(std::move(rules));
    std::lock_guard lock(mutex_);
    rules_ = std::move(made);
  }
  std::string operator()(const ClientInfo& client) const {
    std::shared_ptr<const std::vector<GroupRule>> rules;
    {
      std::lock_guard lock(mutex_);
      rules = rules_;
    }
    return group_of(*rules, client);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const std::vector<GroupRule>> rules_ = std::make_shared<const std::vector<GroupRule>>();
};

// "group edge", as the log names it.
std::string in_words(const std::string& group) { return group.empty() ? "" : fmt::format("group {}: ", group); }

AdsServerOptions server_options(AdsServerOptions options, const Grouping& grouping) {
  options.group_of = [&grouping](const ClientInfo& client) { return grouping(client); };
  options.on_connect = [](const ClientInfo& client) {
    OUTRIGGER_LOG(kInfo, "control", "{} connected{}{}", who(client), client.incremental ? ", incremental" : "",
                  client.user_agent.empty() ? "" : ", " + one_line(client.user_agent));
  };
  options.on_disconnect = [](const ClientInfo& client) {
    OUTRIGGER_LOG(kInfo, "control", "{} disconnected", who(client));
  };
  options.on_ack = [](const ClientInfo& client, const Answer& answer) {
    OUTRIGGER_LOG(kInfo, "control", "ACK of {} version {} from {}", one_line(config::short_type(answer.type_url)),
                  answer.version, who(client));
  };
  options.on_nack = [](const ClientInfo& client, const Answer& answer) {
    OUTRIGGER_LOG(kWarning, "control", "NACK of {} version {} from {}: {}",
                  one_line(config::short_type(answer.type_url)), answer.version, who(client), one_line(answer.error));
  };
  return options;
}

// "127.0.0.1:0" with the port that it got.
std::string with_port(const std::string& listen, uint16_t port) {
  const size_t colon = listen.rfind(':');
  if (port == 0 || colon == std::string::npos) return listen;
  return fmt::format("{}:{}", listen.substr(0, colon), port);
}

}  // namespace

struct ControlPlane::Impl {
  explicit Impl(ControlOptions given)
      : options(std::move(given)),
        registry(0),
        translator(filters::all_filters(), states, registry, {.api_listeners = true, .files_elsewhere = true}),
        source(options.config_dir, translator, cache.pool()),
        server(cache, with_admission(server_options(options.server, grouping))) {}

  AdsServerOptions with_admission(AdsServerOptions out) {
    if (!options.token_file.empty()) out.token_ok = [this](std::string_view token) { return tokens->accepts(token); };
    out.on_refused = [this](const std::string& peer, const std::string& reason) {
      if (const auto left_out = refusals.take())
        OUTRIGGER_LOG(kWarning, "control", "refused {}: {}{}", peer, reason,
                      *left_out == 0 ? "" : fmt::format(" (and {} before it)", *left_out));
    };
    return out;
  }

  void tell(const DirectorySource::Outcome& outcome);
  void publish(const DirectorySource::Outcome& outcome);
  void serve(const DirectorySource::Outcome& outcome);
  Result<void> watch_directories();
  void on_files(const event::FileBatch& batch);
  Result<void> start_admin();
  void warn_of_exposure() const;
  admin::AdminResponse page(const admin::AdminRequest& request);
  ControlMetrics metrics();

  const ControlOptions options;
  stats::Registry registry;
  config::StateRegistry states;
  config::Translator translator;
  ResourceCache cache;
  DirectorySource source;
  Grouping grouping;
  std::unique_ptr<TokenFile> tokens;
  LineBudget refusals;
  AdsServer server;
  std::unique_ptr<event::FileWatch> watch;
  std::unique_ptr<admin::AdminServer> admin_server;
  std::vector<std::string> watched;
  event::Loop* loop = nullptr;
  struct Group {
    std::shared_ptr<const ResourceSnapshot> snapshot;
    int64_t since_unix_ms = 0;
  };
  std::map<std::string, Group> groups;  // what is served
  size_t files = 0, refused_files = 0;
  uint64_t faults = 0;
  event::Timeout again{[](void* self) {
                         Impl& impl = *static_cast<Impl*>(self);
                         impl.on_files({});
                       },
                       this};
};

// ---- the admin pages ----

Result<void> ControlPlane::Impl::start_admin() {
  if (options.admin_address.empty()) return {};
  TRY(const net::Address address, admin::parse_listen_address(options.admin_address));
  TRY(admin_server, admin::AdminServer::listen(
                        *loop, address, [this](const admin::AdminRequest& request) { return page(request); }, {}));
  if (!admin_server->address().is_unix() && !admin_server->address().is_loopback())
    OUTRIGGER_LOG(kWarning, "control", "/ready and /metrics can be read from other machines");
  log::write(log::Level::kInfo, "control", "admin: http://" + admin_server->address().str() + "/ready and /metrics");
  return {};
}

admin::AdminResponse ControlPlane::Impl::page(const admin::AdminRequest& request) {
  if (request.method != "GET" && request.method != "HEAD")
    return {.status = 405, .body = "only GET and HEAD\n", .allow = "GET, HEAD"};
  if (request.path == "/") return {.body = "/ready    200 when a configuration is served\n/metrics  for Prometheus\n"};
  if (request.path == "/metrics")
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
            .body = metrics_text(metrics(), event::wall_clock_ms())};
  if (request.path != "/ready") return {.status = 404, .body = "there are / /ready /metrics\n"};
  if (!groups.empty()) return {.body = "READY\n"};
  return {.status = 503,
          .body = fmt::format("nothing is served yet: {} of {} files are refused\n", refused_files, files)};
}

ControlMetrics ControlPlane::Impl::metrics() {
  ControlMetrics out{.server = server.stats(), .files = files, .refused_files = refused_files, .file_faults = faults};
  for (const auto& [name, group] : groups)
    out.groups.push_back({name, group.snapshot->version(), group.snapshot->size(), group.since_unix_ms});
  return out;
}

// What others on the network could do.
void ControlPlane::Impl::warn_of_exposure() const {
  const auto address = admin::parse_listen_address(options.listen);
  if (address && (address->is_unix() || address->is_loopback())) return;
  const bool plain = options.server.tls.certificate_file.empty();
  if (plain)
    OUTRIGGER_LOG(kWarning, "control",
                  "{} is plain text and no loopback address: who is on the way can read{} and change what proxies are "
                  "told; --tls-cert and --tls-key encrypt it",
                  options.listen, options.token_file.empty() ? "" : " the tokens");
  if (options.token_file.empty() && options.server.tls.client_ca_file.empty())
    OUTRIGGER_LOG(
        kWarning, "control",
        "whoever reaches {} gets the configuration, secrets included; --tls-client-ca or --token-file asks who "
        "it is",
        options.listen);
}

// ---- files ----

void ControlPlane::Impl::tell(const DirectorySource::Outcome& outcome) {
  files = outcome.files;
  refused_files = outcome.refused_files;
  faults += static_cast<uint64_t>(
      std::count_if(outcome.faults.begin(), outcome.faults.end(), [](const auto& fault) { return !fault.warning; }));
  for (const config::Fault& fault : outcome.faults) {
    if (fault.warning) {
      OUTRIGGER_LOG(kWarning, "control", "{}", fault.str());
    } else {
      OUTRIGGER_LOG(kError, "control", "{}", fault.str());
    }
  }
  for (const std::string& file : outcome.mended) OUTRIGGER_LOG(kInfo, "control", "{} is good again", file);
}

void ControlPlane::Impl::publish(const DirectorySource::Outcome& outcome) {
  tell(outcome);
  states.sweep();
  if (outcome.try_again) loop->timers().arm(again, kTryAgainMs);
  if (outcome.groups.empty()) {
    OUTRIGGER_LOG(kError, "control", "{} of {} files are refused; nothing is served until all have been good once",
                  outcome.refused_files, outcome.files);
    return;
  }
  serve(outcome);
}

// Groups that are new come before the clients that move to them, groups that are gone go after them.
void ControlPlane::Impl::serve(const DirectorySource::Outcome& outcome) {
  const std::string but =
      outcome.refused_files == 0
          ? ""
          : fmt::format(", {} of them refused and served as they were last good", outcome.refused_files);
  bool changed = false;
  for (const auto& [name, snapshot] : outcome.groups) {
    Group& group = groups[name];
    if (group.snapshot != nullptr && group.snapshot->version() == snapshot->version()) continue;
    changed = true;
    OUTRIGGER_LOG(kInfo, "control", "{}version {}: {} resources of {} files{}", in_words(name), snapshot->version(),
                  snapshot->size(), outcome.files, but);
    group = {snapshot, event::wall_clock_ms()};
    cache.set(snapshot, name);
  }
  if (!changed && !outcome.faults.empty())
    OUTRIGGER_LOG(kWarning, "control", "{} of {} files are refused; what is served stays", outcome.refused_files,
                  outcome.files);
  grouping.set(outcome.rules);
  server.regroup();
  for (auto at = groups.begin(); at != groups.end();) {
    const bool gone = outcome.groups.count(at->first) == 0;
    if (gone) {
      OUTRIGGER_LOG(kInfo, "control", "group {} is gone", at->first);
      cache.set(nullptr, at->first);
    }
    at = gone ? groups.erase(at) : std::next(at);
  }
}

// ---- what is watched ----

Result<void> ControlPlane::Impl::watch_directories() {
  std::vector<std::string> directories = source.directories();
  TRY(watch, event::FileWatch::open(*loop, directories, [this](const event::FileBatch& batch) { on_files(batch); }));
  watched = std::move(directories);
  return {};
}

void ControlPlane::Impl::on_files(const event::FileBatch& batch) {
  // Where one directory was replaced, those below it are others, too.
  const auto watch_again = [this] {
    if (const auto done = watch_directories(); !done)
      OUTRIGGER_LOG(kError, "control", "cannot watch {}: {}", options.config_dir, done.error().detail);
  };
  if (!batch.rescan.empty() && watched.size() > 1) watch_again();
  publish(source.update(batch));
  if (source.directories() == watched) return;
  watch_again();
  publish(source.load());
}

ControlPlane::ControlPlane(ControlOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

ControlPlane::~ControlPlane() {
  stop();
  while (impl_->admin_server != nullptr && !impl_->admin_server->idle()) {
    impl_->loop->post([] {});
    impl_->loop->run_once();
  }
}

bool ControlPlane::validate() {
  struct stat info;
  if (stat(impl_->options.config_dir.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    OUTRIGGER_LOG(kError, "control", "{} is no directory that can be read", impl_->options.config_dir);
    return false;
  }
  const DirectorySource::Outcome outcome = impl_->source.load();
  impl_->tell(outcome);
  if (outcome.refused_files > 0) return false;
  for (const auto& [name, snapshot] : outcome.groups)
    for (const Inconsistency& one : check_consistency(*snapshot))
      OUTRIGGER_LOG(kWarning, "control", "{}{}/{}: {}", in_words(name), config::short_type(one.type_url), one.name,
                    one.problem);
  OUTRIGGER_LOG(kInfo, "control", "{}: {} files, {} resources, no faults", impl_->options.config_dir, outcome.files,
                outcome.resources());
  return true;
}

Result<uint16_t> ControlPlane::start(event::Loop& loop) {
  struct stat info;
  const std::string& dir = impl_->options.config_dir;
  if (stat(dir.c_str(), &info) != 0) return fail(Errc::kNotFound, fmt::format("{}: {}", dir, strerror(errno)));
  if (!S_ISDIR(info.st_mode)) return fail(Errc::kInvalidArgument, dir + " is no directory");
  impl_->loop = &loop;
  // Before the load that follows, so that nothing falls between.
  if (!impl_->options.token_file.empty()) {
    TRY(impl_->tokens,
        TokenFile::open(loop, impl_->options.token_file, [impl = impl_.get()] { impl->server.readmit(); }));
  }
  TRY_VOID(check_server_tls(impl_->options.server.tls));
  TRY_VOID(impl_->watch_directories());
  TRY_VOID(impl_->start_admin());
  impl_->on_files({.rescan = impl_->watched});
  auto port = impl_->server.start(impl_->options.listen);
  if (port) impl_->warn_of_exposure();
  // Whatever the log level: whoever asked for port 0 reads it here.
  if (port) log::write(log::Level::kInfo, "control", "listening on " + with_port(impl_->options.listen, *port));
  return port;
}

uint16_t ControlPlane::admin_port() const {
  return impl_->admin_server == nullptr ? 0 : impl_->admin_server->address().port();
}

void ControlPlane::stop() {
  impl_->watch.reset();
  impl_->again.disarm();
  if (impl_->admin_server != nullptr) impl_->admin_server->close_now();
  impl_->server.stop();
  impl_->tokens.reset();
}

}  // namespace outrigger::control
