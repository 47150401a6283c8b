// List<T>: intrusive doubly linked list. T derives from ListNode<Tag>; a node unlinks itself on destruction.
//
// Thread rule: one thread.
// Use:  struct Conn : ListNode<IdleTag> {};  List<Conn, IdleTag> idle;  idle.push_front(conn);  conn.unlink();
#pragma once

#include <cstddef>

namespace outrigger {

template <class Tag>
class ListNode {
 public:
  ListNode() = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { unlink(); }

  bool linked() const { return next_ != this; }
  void unlink() {
    prev_->next_ = next_;
    next_->prev_ = prev_;
    prev_ = next_ = this;
  }

 private:
  template <class T, class U>
  friend class List;
  void insert_before(ListNode* at) {
    prev_ = at->prev_;
    next_ = at;
    at->prev_->next_ = this;
    at->prev_ = this;
  }
  ListNode* prev_ = this;
  ListNode* next_ = this;
};

template <class T, class Tag>
class List {
  using Node = ListNode<Tag>;

 public:
  bool empty() const { return !root_.linked(); }
  void push_back(T& item) { link(item, &root_); }
  void push_front(T& item) {
    static_cast<Node&>(item).unlink();  // it may be the first already
    link(item, root_.next_);
  }
  T* front() { return empty() ? nullptr : cast(root_.next_); }
  T* back() { return empty() ? nullptr : cast(root_.prev_); }
  T* pop_front() {
    T* item = front();
    if (item != nullptr) static_cast<Node*>(item)->unlink();
    return item;
  }
  // The element after `item`, nullptr at the end.
  T* next(T& item) {
    Node* n = static_cast<Node&>(item).next_;
    return n == &root_ ? nullptr : cast(n);
  }
  template <class F>
  void for_each(F&& f) {  // f may unlink its argument
    for (Node* n = root_.next_; n != &root_;) {
      Node* next = n->next_;
      f(*cast(n));
      n = next;
    }
  }

 private:
  static T* cast(Node* n) { return static_cast<T*>(n); }
  void link(T& item, Node* before) {
    Node& n = item;
    n.unlink();
    n.insert_before(before);
  }
  Node root_;
};

}  // namespace outrigger
