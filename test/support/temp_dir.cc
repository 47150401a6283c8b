#include "support/temp_dir.h"

#include <stdlib.h>

#include <fstream>
#include <iterator>

#include "base/check.h"

namespace outrigger::test {

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "outrigger_test_XXXXXX").string();
  CHECK(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, std::string_view content) {
  const std::string beside = path + ".new";
  {
    std::ofstream out(beside, std::ios::binary);
    out << content;
    CHECK(out.good());
  }
  std::filesystem::rename(beside, path);
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

}  // namespace outrigger::test
