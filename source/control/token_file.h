// TokenFile: the bearer tokens that are good, one a line; empty lines and lines that begin with # do not count. Read
// again when the file changes; a file that is bad then is told, and the tokens that were good stay.
//
// Kept as hashes, compared in constant time, and in no message.
//
// Thread rule: the loop's thread, except for accepts(): any thread.
// Use:  TRY(auto tokens, TokenFile::open(loop, "/etc/outrigger/tokens"));  if (!tokens->accepts(token)) refuse();
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "outrigger/result.h"

namespace outrigger::event {
class FileWatch;
class Loop;
}  // namespace outrigger::event

namespace outrigger::control {

class TokenFile {
 public:
  static constexpr size_t kMinTokenBytes = 16;
  static constexpr size_t kMaxTokens = 1000;

  // Refused, by file and line: no such file, no token, one that is too short to be a secret.
  // `on_change` follows each reading that brought other tokens.
  static Result<std::unique_ptr<TokenFile>> open(event::Loop& loop, const std::string& path,
                                                 std::function<void()> on_change = {});
  ~TokenFile();

  bool accepts(std::string_view token) const;
  // The first token of a file, for a client's use.
  static Result<std::string> first(const std::string& path);

 private:
  using Digest = std::array<uint8_t, 32>;
  using Digests = std::vector<Digest>;
  TokenFile(std::string path, std::function<void()> on_change);
  static Result<Digests> read(const std::string& path);
  void reload();

  const std::string path_;
  const std::function<void()> on_change_;
  std::unique_ptr<event::FileWatch> watch_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Digests> good_;
};

}  // namespace outrigger::control
