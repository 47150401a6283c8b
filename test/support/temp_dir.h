// TempDir: a directory that goes away with its owner. File helpers for tests.
//
// Use:  TempDir dir;  write_file(dir / "a.yaml", "...");   // replaced atomically, as a careful operator would
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace outrigger::test {

class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// Writes beside the file and renames over it.
void write_file(const std::string& path, std::string_view content);
// Empty if the file is not there.
std::string read_file(const std::string& path);

}  // namespace outrigger::test
