#include "control/token_file.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "control/read_text.h"
#include "event/file_watch.h"

namespace outrigger::control {
namespace {

std::array<uint8_t, 32> digest_of(std::string_view token) {
  std::array<uint8_t, 32> out;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), out.data());
  return out;
}

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t begin = std::min(line.find_first_not_of(kSpace), line.size());
  line.remove_prefix(begin);
  return line.substr(0, line.find_last_not_of(kSpace) + 1);
}

tl::unexpected<Error> refused(const std::string& path, const std::string& why) {
  return fail(Errc::kInvalidArgument, path + ": " + why);
}

// Calls take(token) for each; at least once.
template <class Take>
Result<void> for_each_token(const std::string& path, Take take) {
  Result<std::string> text = read_text(path);
  if (!text) return refused(path, text.error().detail);
  size_t count = 0;
  std::string_view rest = *text;
  for (int number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::string_view token = trimmed(line);
    if (token.empty() || token.front() == '#') continue;
    if (token.size() < TokenFile::kMinTokenBytes)
      return refused(
          path, fmt::format("line {}: a token must have at least {} characters", number, TokenFile::kMinTokenBytes));
    if (++count > TokenFile::kMaxTokens)
      return refused(path, fmt::format("has more than {} tokens", TokenFile::kMaxTokens));
    take(token);
  }
  OPENSSL_cleanse(text->data(), text->size());
  if (count == 0) return refused(path, "holds no token");
  return {};
}

}  // namespace

Result<TokenFile::Digests> TokenFile::read(const std::string& path) {
  Digests all;
  TRY_VOID(for_each_token(path, [&](std::string_view token) { all.push_back(digest_of(token)); }));
  return all;
}

Result<std::string> TokenFile::first(const std::string& path) {
  std::string found;
  TRY_VOID(for_each_token(path, [&](std::string_view token) {
    if (found.empty()) found = token;
  }));
  return found;
}

Result<std::unique_ptr<TokenFile>> TokenFile::open(event::Loop& loop, const std::string& path,
                                                   std::function<void()> on_change) {
  std::unique_ptr<TokenFile> file(new TokenFile(path, std::move(on_change)));
  TRY(file->watch_,
      event::FileWatch::open(loop, {path}, [raw = file.get()](const event::FileBatch&) { raw->reload(); }));
  TRY(Digests digests, read(path));
  file->good_ = std::make_shared<const Digests>(std::move(digests));
  return file;
}

TokenFile::TokenFile(std::string path, std::function<void()> on_change)
    : path_(std::move(path)), on_change_(std::move(on_change)) {}
TokenFile::~TokenFile() = default;

void TokenFile::reload() {
  Result<Digests> digests = read(path_);
  if (!digests) {
    OUTRIGGER_LOG(kError, "control", "{}; the tokens that were good stay so", digests.error().detail);
    return;
  }
  const size_t count = digests->size();
  if (*digests == *good_) return;
  {
    auto made = std::make_shared<const Digests>(std::move(*digests));
    std::lock_guard lock(mutex_);
    good_ = std::move(made);
  }
  OUTRIGGER_LOG(kInfo, "control", "{}: {} tokens are good from now on", path_, count);
  if (on_change_) on_change_();
}

bool TokenFile::accepts(std::string_view token) const {
  std::shared_ptr<const Digests> good;
  {
    std::lock_guard lock(mutex_);
    good = good_;
  }
  const Digest asked = digest_of(token);
  bool found = false;
  for (const Digest& one : *good) found |= CRYPTO_memcmp(one.data(), asked.data(), one.size()) == 0;
  return found;
}

}  // namespace outrigger::control
