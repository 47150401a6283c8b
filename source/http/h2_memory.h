// nghttp2's memory, recycled, so that a session in steady state asks the heap for nothing: lists of free chunks by
// size, one set a thread. And what an idle session need not hold, it does not:
// - the frame buffer: all sessions of a thread have the same one. nghttp2 fills it inside nghttp2_session_mem_send and
//   has no use for what is in it once that has returned 0 (a client's session_new puts the preface there).
// - the table of streams, a page: given back to the kernel by rest() when there is nothing in it.
//
// Thread rule: one thread; a chunk goes back on the thread that took it (sessions stay on their loop).
// Use:  H2Memory memory;                     // outlives the session
//       { H2Memory::Framing framing(memory);  nghttp2_session_server_new3(&session, ..., &memory.functions());
//         while (nghttp2_session_mem_send(session, &data) > 0) ...; }
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>

namespace outrigger::http {

struct H2Lists;

class H2Memory {
 public:
  H2Memory();
  H2Memory(const H2Memory&) = delete;
  H2Memory& operator=(const H2Memory&) = delete;

  // nghttp2 copies it.
  nghttp2_mem functions();

  // From nghttp2_session_mem_send (or session_new) until what it gave has been copied and it has returned 0: the frame
  // buffer is this session's. May be nested.
  class Framing {
   public:
    explicit Framing(H2Memory& memory);
    ~Framing();
    Framing(const Framing&) = delete;
    Framing& operator=(const Framing&) = delete;

   private:
    H2Memory& memory_;
    H2Memory* const before_;
  };

  // Gives back what holds nothing, whatever it is there for: a page of zeroes. A system call. False: it holds
  // something.
  bool rest();

 private:
  friend struct H2Functions;
  H2Lists& lists_;
  void* table_ = nullptr;
  bool may_borrow_ = true;  // the frame buffer: in the first Framing
};

// The same lists, for objects of the codec's own. Aligned to 8 bytes.
void* h2_allocate(size_t bytes);
void h2_free(void* at);

// Of this thread's sessions: pages of tables that take memory now. Asks the kernel (tests).
size_t h2_resident_tables();

}  // namespace outrigger::http
