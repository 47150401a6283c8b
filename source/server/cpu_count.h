// cpu_count: how many CPUs this process may use: its affinity mask and its cgroup's quota (v1 and v2), rounded up.
//
// Thread rule: any thread.
// Use:  uint32_t workers = cpu_count();
#pragma once

#include <cstdint>
#include <string>

namespace outrigger::server {

uint32_t cpu_count();
// The tightest quota of the cgroup and its parents, in CPUs rounded up; 0: none. `proc_cgroup`: /proc/self/cgroup's
// text; `mount`: /sys/fs/cgroup.
uint32_t cgroup_cpus(const std::string& proc_cgroup, const std::string& mount);

}  // namespace outrigger::server
