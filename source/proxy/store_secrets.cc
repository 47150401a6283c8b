// Secrets in the Store: parts that name nothing, and TLS that names them. What listeners and clusters use of a secret
// is linked when they go live and again when it changes; a secret is refused if one of those that name it could not use
// it.
#include <algorithm>

#include "base/log.h"
#include "config/tls_secrets.h"
#include "event/clock.h"
#include "proxy/store_impl.h"

namespace outrigger::proxy {

using config::SecretKind;
using config::SecretRefSpec;
using config::SecretSpec;

namespace {

void sort_unique(std::vector<std::string>& names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
}

std::string chain_path(const ListenerPart& part, size_t index) {
  return index < part.spec.filter_chains.size() ? "filter_chains[" + std::to_string(index) + "]"
                                                : "default_filter_chain";
}

tl::unexpected<Error> refused(std::string text) { return fail(Errc::kInvalidArgument, std::move(text)); }

}  // namespace

const SecretSpec* Store::Impl::newest_secret(std::string_view name) const {
  const auto* entry = secrets.find(name);
  return entry == nullptr || entry->staged == nullptr ? nullptr : entry->staged->spec.get();
}

const SecretSpec* Store::Impl::live_secret(std::string_view name) const {
  const auto* entry = secrets.find(name);
  return entry == nullptr || entry->live == nullptr ? nullptr : entry->live->spec.get();
}

template <class Tls>
std::string Store::Impl::problem_with(const Tls& tls, std::string_view coming_name, const SecretSpec* coming) const {
  const config::FindSecret find = [&](const SecretRefSpec& one) {
    const std::string name = scoped_names.of(one);
    return coming != nullptr && coming_name == name ? coming : newest_secret(name);
  };
  std::string wrong;
  config::each_secret(tls, [&](const SecretRefSpec& one, SecretKind used_as) {
    const SecretSpec* known = find(one);
    if (known == nullptr || config::kind_of(*known) == used_as || !wrong.empty()) return;
    wrong = "secret " + one.name + " is a " + std::string(secret_kind_name(config::kind_of(*known))) +
            " and named as a " + std::string(secret_kind_name(used_as));
  });
  if (!wrong.empty()) return wrong;
  const auto whole = config::with_secrets(tls, find);
  return whole ? config::problem_of(*whole) : std::string();
}

Result<void> Store::Impl::check_secrets(const ListenerVersion& version) const {
  for (size_t i = 0; i < version.part->chains.size(); ++i) {
    const HttpChain& chain = *version.part->chains[i];
    if (chain.secrets.empty()) continue;
    if (std::string wrong = problem_with(*chain.spec.tls); !wrong.empty())
      return refused(chain_path(*version.part, i) + ".transport_socket: " + wrong);
  }
  return {};
}

Result<void> Store::Impl::check_secrets(const config::ClusterSpec& spec) const {
  if (!spec.tls) return {};
  if (std::string wrong = problem_with(*spec.tls); !wrong.empty()) return refused("transport_socket: " + wrong);
  return {};
}

// Those that name it could use it.
Result<void> Store::Impl::check_users(const std::string& secret, const SecretSpec& coming) {
  const auto known = secret_users().find(secret);
  if (known == known_secret_users.end()) return {};
  for (const std::string& name : known->second.listeners) {
    const auto& entry = *listeners.find(name);
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version == nullptr) continue;
      const auto chains = version->chains_of_secret.find(secret);
      if (chains == version->chains_of_secret.end()) continue;
      for (const size_t i : chains->second) {
        const std::string wrong = problem_with(*version->part->chains[i]->spec.tls, secret, &coming);
        if (!wrong.empty()) return refused("listener " + name + ": " + chain_path(*version->part, i) + ": " + wrong);
      }
    }
  }
  for (const std::string& name : known->second.clusters) {
    const auto& entry = *clusters.find(name);
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version == nullptr || !std::binary_search(version->secrets.begin(), version->secrets.end(), secret)) continue;
      if (std::string wrong = problem_with(*version->spec().tls, secret, &coming); !wrong.empty())
        return refused("cluster " + name + ": " + wrong);
    }
  }
  return {};
}

void Store::Impl::note_secrets(ListenerVersion& version) const {
  version.tls.clear();
  for (size_t i = 0; i < version.part->chains.size(); ++i) {
    const HttpChain& chain = *version.part->chains[i];
    version.tls.push_back(chain.tls);
    if (chain.secrets.empty()) continue;
    config::each_secret(*chain.spec.tls, [&](const SecretRefSpec& one, SecretKind) {
      std::string name = scoped_names.of(one);
      auto& naming = version.chains_of_secret[name];
      if (naming.empty() || naming.back() != i) naming.push_back(i);
      if (one.source) version.named.secrets.push_back(std::move(name));
    });
  }
  sort_unique(version.named.secrets);
}

void Store::Impl::note_secrets(const config::ClusterSpec& spec, ClusterVersion& version) const {
  if (!spec.tls) return;
  config::each_secret(*spec.tls, [&](const SecretRefSpec& one, SecretKind) {
    version.secrets.push_back(scoped_names.of(one));
    if (one.source) version.named.secrets.push_back(version.secrets.back());
  });
  sort_unique(version.secrets);
  sort_unique(version.named.secrets);
}

const std::unordered_map<std::string, SecretUsers>& Store::Impl::secret_users() {
  if (!std::exchange(secrets_changed, false)) return known_secret_users;
  known_secret_users.clear();
  for (const auto& [name, entry] : listeners.entries) {
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version == nullptr) continue;
      for (const auto& [secret, chains] : version->chains_of_secret) known_secret_users[secret].listeners.insert(name);
    }
  }
  for (const auto& [name, entry] : clusters.entries) {
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version == nullptr) continue;
      for (const std::string& secret : version->secrets) known_secret_users[secret].clusters.insert(name);
    }
  }
  return known_secret_users;
}

// ---- what is live ----

// Without a secret that it lacks the chain has no TLS, and serves nobody.
void Store::Impl::use_secrets(ListenerVersion& version, size_t index) {
  const HttpChain& chain = *version.part->chains[index];
  if (chain.secrets.empty()) return;
  const auto whole = config::with_secrets(*chain.spec.tls,
                                          [&](const SecretRefSpec& one) { return live_secret(scoped_names.of(one)); });
  if (!whole) return;
  auto made = tls_contexts.server(*whole);
  if (made)
    version.tls[index] = std::move(*made);
  else
    OUTRIGGER_LOG(kWarning, "proxy", "listener {}: {}: {}", version.part->spec.name, chain_path(*version.part, index),
                  made.error().detail);
}

void Store::Impl::use_secrets(ListenerVersion& version) {
  if (version.chains_of_secret.empty()) return;
  for (size_t i = 0; i < version.part->chains.size(); ++i) use_secrets(version, i);
}

bool Store::Impl::use_secrets(ClusterVersion& version) {
  if (version.secrets.empty()) return false;
  const auto whole = config::with_secrets(*version.spec().tls,
                                          [&](const SecretRefSpec& one) { return live_secret(scoped_names.of(one)); });
  std::shared_ptr<const upstream::TlsContext> tls;
  if (whole) {
    auto made = tls_contexts.client(*whole);
    if (!made) {
      OUTRIGGER_LOG(kWarning, "proxy", "cluster {}: {}", version.spec().name, made.error().detail);
      return false;
    }
    tls = std::move(*made);
  } else if (version.part->tls() == nullptr) {
    tls = tls_contexts.without_secret();
  } else {
    return false;
  }
  if (tls == version.part->tls()) return false;
  version.part =
      upstream::Cluster::compile(version.spec(), *options.stats, version.part->shared_state(), std::move(tls));
  return true;
}

// Secrets name nothing: they are live at once, and so is what uses them.
void Store::Impl::publish_secrets() {
  if (secrets.waiting.empty()) return;
  const auto& users = secret_users();
  for (const std::string& name : secrets.waiting) {
    auto& entry = *secrets.find(name);
    entry.live = entry.staged;
  }
  for (const std::string& name : secrets.waiting) {
    const auto known = users.find(name);
    if (known == users.end()) continue;
    secrets.find(name)->was_wanted = true;
    for (const std::string& user : known->second.listeners) {
      ListenerVersion* live = listeners.find(user)->live.get();
      if (live == nullptr) continue;
      const auto chains = live->chains_of_secret.find(name);
      if (chains == live->chains_of_secret.end()) continue;
      for (const size_t chain : chains->second) use_secrets(*live, chain);
      changed_listeners.insert(user);
    }
    for (const std::string& user : known->second.clusters) {
      ClusterEntry& cluster = *clusters.find(user);
      if (cluster.live == nullptr || !use_secrets(*cluster.live)) continue;
      changed_clusters.insert(user);
      if (cluster.live->spec().health_check) checks_changed.insert(user);
    }
  }
  secrets.waiting.clear();
  status_due = true;
}

// Those of discovery that nothing, staged or live, names any more; what is removed and named serves on.
void Store::Impl::drop_secrets() {
  if (!secrets_changed && secrets.leaving.empty()) return;
  const auto& users = secret_users();
  const bool gone = drop_unnamed(secrets, [&](const std::string& name) { return users.contains(name); });
  if (gone) status_due = true;
}

}  // namespace outrigger::proxy
