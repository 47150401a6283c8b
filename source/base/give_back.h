// give_back: a worker's hold on an immutable part ends. Workers destroy no parts: the last hold goes to the builder.
//
// Thread rule: the thread of `owner`.
// Use:  give_back(tls_, chain_.linked.tls, worker_);
#pragma once

#include <memory>
#include <utility>

namespace outrigger {

// `holder`: another hold on what may be the same part, on this thread: then the builder need not be woken.
template <class T, class Owner>
void give_back(std::shared_ptr<T>& mine, const std::shared_ptr<T>& holder, Owner& owner) {
  if (mine == holder) {
    mine.reset();
  } else if (mine != nullptr) {
    owner.release(std::move(mine));
  }
}

}  // namespace outrigger
