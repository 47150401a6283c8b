#include "event/file_watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "event/loop.h"
#include "event/timer.h"

namespace outrigger::event {
namespace {

namespace fs = std::filesystem;
using Paths = std::vector<std::string>;

class FileWatchTest : public ::testing::Test {
 protected:
  FileWatchTest() {
    char pattern[] = "/tmp/file_watch_test_XXXXXX";
    root = mkdtemp(pattern);
    dir = root + "/conf";
    fs::create_directory(dir);
  }
  ~FileWatchTest() override {
    watch.reset();
    fs::remove_all(root);
  }

  void open(Paths paths, uint64_t settle_ms = 5) {
    auto opened = FileWatch::open(
        loop, std::move(paths), [this](const FileBatch& batch) { batches.push_back(batch); }, settle_ms);
    ASSERT_TRUE(opened) << opened.error().detail;
    watch = std::move(*opened);
  }
  void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

  // Runs the loop until `done`, at most 10 s.
  template <class Done>
  bool wait_until(Done done) {
    bool late = false;
    struct Deadline {
      bool* late;
      Timeout timeout{[](void* self) { *static_cast<Deadline*>(self)->late = true; }, this};
    } deadline{&late};
    loop.timers().arm(deadline.timeout, 10'000);
    while (!done() && !late) loop.run_once();
    return !late;
  }
  bool batch_with_change(const std::string& path) {
    return wait_until([&] {
      return std::any_of(batches.begin(), batches.end(), [&](const FileBatch& b) {
        return std::find(b.changed.begin(), b.changed.end(), path) != b.changed.end();
      });
    });
  }
  bool batch_with_rescan(const std::string& path) {
    return wait_until([&] {
      return std::any_of(batches.begin(), batches.end(), [&](const FileBatch& b) {
        return std::find(b.rescan.begin(), b.rescan.end(), path) != b.rescan.end();
      });
    });
  }

  std::string root, dir;
  Loop loop;
  std::vector<FileBatch> batches;
  std::unique_ptr<FileWatch> watch;
};

TEST_F(FileWatchTest, WrittenFile) {
  open({dir});
  write(dir + "/a.yaml", "x");
  EXPECT_TRUE(batch_with_change(dir + "/a.yaml"));
}

TEST_F(FileWatchTest, NothingIsToldBeforeTheWriterCloses) {
  open({dir});
  const int fd = ::open((dir + "/a.yaml").c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_EQ(::write(fd, "half", 4), 4);
  write(dir + "/b.yaml", "whole");
  ASSERT_TRUE(batch_with_change(dir + "/b.yaml"));
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].changed, Paths{dir + "/b.yaml"});
  batches.clear();
  ::close(fd);
  EXPECT_TRUE(batch_with_change(dir + "/a.yaml"));
}

TEST_F(FileWatchTest, OneBatchForWhatComesTogether) {
  open({dir}, 50);
  for (int i = 0; i < 5; ++i) write(dir + "/" + std::to_string(i) + ".yaml", "x");
  ASSERT_TRUE(batch_with_change(dir + "/4.yaml"));
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].changed.size(), 5u);
  EXPECT_TRUE(batches[0].rescan.empty());
}

TEST_F(FileWatchTest, RenamedIntoPlaceDeletedAndRenamedAway) {
  open({dir});
  write(root + "/new", "x");
  fs::rename(root + "/new", dir + "/a.yaml");
  ASSERT_TRUE(batch_with_change(dir + "/a.yaml"));
  batches.clear();
  fs::remove(dir + "/a.yaml");
  ASSERT_TRUE(batch_with_change(dir + "/a.yaml"));
  batches.clear();
  write(dir + "/b.yaml", "x");
  ASSERT_TRUE(batch_with_change(dir + "/b.yaml"));
  batches.clear();
  fs::rename(dir + "/b.yaml", root + "/away");
  EXPECT_TRUE(batch_with_change(dir + "/b.yaml"));
}

TEST_F(FileWatchTest, LinksAreCompleteWhenMade) {
  open({dir});
  write(root + "/target", "x");
  fs::create_hard_link(root + "/target", dir + "/hard.yaml");
  ASSERT_TRUE(batch_with_change(dir + "/hard.yaml"));
  fs::create_symlink(root + "/target", dir + "/soft.yaml");
  EXPECT_TRUE(batch_with_change(dir + "/soft.yaml"));
}

TEST_F(FileWatchTest, KubernetesDataSwap) {
  fs::create_directory(dir + "/..v1");
  fs::create_directory(dir + "/..v2");
  write(dir + "/..v1/a.yaml", "1");
  write(dir + "/..v2/a.yaml", "2");
  fs::create_directory_symlink("..v1", dir + "/..data");
  fs::create_symlink("..data/a.yaml", dir + "/a.yaml");
  open({dir, dir + "/a.yaml"});
  fs::create_directory_symlink("..v2", dir + "/..data_tmp");
  fs::rename(dir + "/..data_tmp", dir + "/..data");
  EXPECT_TRUE(batch_with_rescan(dir));
  EXPECT_TRUE(batch_with_rescan(dir + "/a.yaml"));
}

TEST_F(FileWatchTest, DirectoryReplaced) {
  open({dir});
  fs::create_directory(root + "/next");
  write(root + "/next/a.yaml", "x");
  fs::rename(dir, root + "/old");
  fs::rename(root + "/next", dir);
  ASSERT_TRUE(batch_with_rescan(dir));
  batches.clear();
  write(dir + "/a.yaml", "y");
  EXPECT_TRUE(batch_with_change(dir + "/a.yaml")) << "the new directory is watched";
  batches.clear();
  write(root + "/old/stale.yaml", "y");
  write(dir + "/b.yaml", "y");
  ASSERT_TRUE(batch_with_change(dir + "/b.yaml"));
  for (const FileBatch& batch : batches) {
    for (const std::string& path : batch.changed) EXPECT_EQ(path.find("stale"), std::string::npos);
  }
}

TEST_F(FileWatchTest, DirectoryThatIsASymlinkSwapped) {
  fs::create_directory(root + "/v1");
  fs::create_directory(root + "/v2");
  const std::string link = root + "/current";
  fs::create_directory_symlink("v1", link);
  open({link});
  fs::create_directory_symlink("v2", root + "/tmp_link");
  fs::rename(root + "/tmp_link", link);
  ASSERT_TRUE(batch_with_rescan(link));
  write(root + "/v2/a.yaml", "x");
  EXPECT_TRUE(batch_with_change(link + "/a.yaml"));
}

TEST_F(FileWatchTest, DirectoryDeletedAndMadeAgain) {
  open({dir});
  fs::remove(dir);
  ASSERT_TRUE(batch_with_rescan(dir));
  batches.clear();
  fs::create_directory(dir);
  ASSERT_TRUE(batch_with_rescan(dir));
  write(dir + "/a.yaml", "x");
  EXPECT_TRUE(batch_with_change(dir + "/a.yaml"));
}

TEST_F(FileWatchTest, DirectoryThatDoesNotExistYet) {
  const std::string later = root + "/later/";
  open({later});
  fs::create_directory(root + "/later");
  ASSERT_TRUE(batch_with_rescan(later));
  write(root + "/later/a.yaml", "x");
  EXPECT_TRUE(batch_with_change(root + "/later/a.yaml"));
}

TEST_F(FileWatchTest, OnlyTheWatchedFile) {
  const std::string file = dir + "/a.yaml";
  open({file});
  write(dir + "/b.yaml", "x");
  write(file, "x");
  ASSERT_TRUE(batch_with_change(file));
  for (const FileBatch& batch : batches) EXPECT_EQ(batch.changed, Paths{file});
}

TEST_F(FileWatchTest, NoParentIsRefused) {
  const auto opened = FileWatch::open(loop, {root + "/none/none/"}, [](const FileBatch&) {});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::kNotFound);
  EXPECT_NE(opened.error().detail.find(root + "/none"), std::string::npos);
}

TEST_F(FileWatchTest, TheCallbackMayDestroyTheWatch) {
  bool told = false;
  auto opened = FileWatch::open(
      loop, {dir},
      [&](const FileBatch&) {
        watch.reset();
        told = true;
      },
      5);
  ASSERT_TRUE(opened);
  watch = std::move(*opened);
  write(dir + "/a.yaml", "x");
  EXPECT_TRUE(wait_until([&] { return told; }));
}

TEST_F(FileWatchTest, ASteadyTrickleIsToldAfterThreeSettleTimes) {
  open({dir}, 200);
  // A writer that never lets a settle time pass and never ends; it writes from a timer.
  struct Trickle {
    std::string path;
    Loop& loop;
    int n = 0;
    Timeout timeout{[](void* self) { static_cast<Trickle*>(self)->tick(); }, this};
    void tick() {
      std::ofstream(path) << ++n;
      loop.timers().arm(timeout, 10);
    }
  } trickle{dir + "/a.yaml", loop};
  trickle.tick();
  EXPECT_TRUE(wait_until([&] { return !batches.empty(); }));
}

}  // namespace
}  // namespace outrigger::event
