// WorldAds: a control plane with one world of resources, that answers what is asked for, as a real one does, but whose
// types change one by one when the test says so, in whatever order.
//
// Thread rule: any thread.
// Use:  WorldAds ads(false, world);  ProxyProcess proxy(ads_bootstrap(ads.port()));
//       ads.release(kRoutesUrl, next);  ASSERT_TRUE(ads.wait_answered());
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "support/ads/scripted_ads.h"

namespace outrigger::test {

// Resources by type and name.
struct AdsWorld {
  std::map<std::string, std::map<std::string, AdsResource>> types;

  // Resources as the YAML of support/resources.h. A YAML that cannot be read ends the test program.
  AdsWorld& with(const std::string& yaml);
  AdsWorld& without(const std::string& type_url, const std::string& name);
};

AdsResource ads_resource(const std::string& yaml);

class WorldAds {
 public:
  WorldAds(bool incremental, AdsWorld world, uint16_t port = 0);

  uint16_t port() const { return wire_.port(); }
  ScriptedAds& wire() { return wire_; }

  // From now on it says of this type what `world` has.
  void release(const std::string& type_url, const AdsWorld& world);
  // As some servers do: what was refused is sent again at once.
  void resend_refused() {
    const std::lock_guard lock(mutex_);
    resends_refused_ = true;
  }
  // All that was sent has been answered.
  bool wait_answered(Milliseconds patience = kPatience) const;
  std::vector<std::string> refusals() const;  // what NACKs said, in their order

 private:
  struct State {
    bool asked = false, named = false, wildcard = false, answered = true;
    std::set<std::string> names;
    std::map<std::string, std::string> sent;  // versions by name
    std::string nonce;
  };

  void on_request(const AdsRequest& request);
  void subscribe(State& state, const AdsRequest& request, bool first);
  void push(const std::string& type_url, bool owed);

  const bool incremental_;
  mutable std::mutex mutex_;
  AdsWorld world_;
  uint64_t stream_ = 0;
  uint64_t counter_ = 0;
  std::map<std::string, State> states_;
  std::vector<std::string> refusals_;
  bool resends_refused_ = false;
  ScriptedAds wire_;  // last: it ends first
};

}  // namespace outrigger::test
