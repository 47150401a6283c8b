// What a process does about its file descriptors before it begins.
//
// Thread rule: before there are other threads.
#pragma once

namespace outrigger {

// As many as the hard limit lets it have.
void raise_descriptor_limit();

// The kernel's table of descriptors grows when it is full, and a thread that is not alone waits for an RCU grace period
// then (fs/file.c, expand_fdtable), 10 ms and more: at 256 connections, 512, 1024... As long as there is one thread it
// costs nothing. Room for 16,384, or for what the limit allows, takes 128 KB.
void make_room_for_descriptors();

}  // namespace outrigger
