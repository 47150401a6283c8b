// explain_json: an explained request as the JSON of /explain; `outriggerctl explain` of a file uses it, too.
//
// Thread rule: pure function.
// Use:  auto told = proxy::explain(snapshot, query, loop);  std::string json = explain_json(*told);
#pragma once

#include <string>

#include "proxy/explain.h"
#include "server/json.h"

namespace outrigger::server {

std::string explain_json(const proxy::Explained& told);
// A member of an aggregate cluster, as /explain and /clusters show it.
void write_member(const proxy::Member& member, JsonWriter& json);

}  // namespace outrigger::server
