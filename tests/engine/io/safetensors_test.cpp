// Checkpoints: what is written can be read, by others too; what is not a checkpoint is refused
// whatever is wrong with it; a failed write leaves the old file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/io/safetensors.h"

namespace stillpoint::io {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

class Folder {  // a fresh one, removed at the end
 public:
  Folder() {
    std::string name = testing::TempDir() + "/stillpoint-io-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      found.push_back(entry.path().filename().string());
    return found;
  }

 private:
  std::filesystem::path path_;
};

std::string contents(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// A file laid out by hand: length, header as given, data.
std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

Safetensors read(const std::string& bytes) {
  std::istringstream stream(bytes);
  return read_safetensors(stream, "model.safetensors");
}

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

// Expects a FormatError that names the file and says `reason`.
void expect_refused(const std::string& bytes, const std::string& reason) {
  try {
    read(bytes);
    ADD_FAILURE() << "was read, expected: " << reason;
  } catch (const FormatError& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("model.safetensors: "), HasSubstr(reason)));
    EXPECT_LT(std::string(e.what()).size(), 500u);
  }
}

NamedTensors some_tensors() {
  return {{"weight", Tensor::from<float>({1, 2, 3, 4, 5, -0.0f}, {2, 3})},
          {"step", Tensor::from<int32_t>({41}, {})},
          {"exact", Tensor::from<double>({0.1, 1e300}, {2})},
          {"none", Tensor::from<float>({}, {0, 7})},
          {"schräg/名", Tensor::from<float>({0.5f}, {1, 1})}};
}

TEST(Safetensors, RoundTrip) {
  const Folder folder;
  const Metadata metadata = {{"config", R"({"hidden": 96})"}, {"empty", ""}};
  save_safetensors(folder / "a.safetensors", some_tensors(), metadata);
  const Safetensors got = load_safetensors(folder / "a.safetensors");
  EXPECT_EQ(got.metadata, metadata);
  const NamedTensors wanted = some_tensors();
  ASSERT_EQ(got.tensors.size(), wanted.size());
  for (const auto& [name, t] : wanted) {
    ASSERT_TRUE(got.tensors.contains(name)) << name;
    const Tensor& g = got.tensors.at(name);
    EXPECT_EQ(g.shape(), t.shape()) << name;
    ASSERT_EQ(g.dtype(), t.dtype()) << name;
  }
  EXPECT_EQ(got.tensors.at("weight").to_vector<float>(), wanted.at("weight").to_vector<float>());
  EXPECT_TRUE(std::signbit(got.tensors.at("weight").to_vector<float>()[5]));
  EXPECT_EQ(got.tensors.at("exact").to_vector<double>(), (std::vector{0.1, 1e300}));
  EXPECT_EQ(got.tensors.at("step").item(), 41);
  EXPECT_THAT(folder.names(), testing::ElementsAre("a.safetensors"));
}

TEST(Safetensors, WritesTheSameBytesAlwaysAndAligned) {
  const Folder folder;
  save_safetensors(folder / "a", some_tensors());
  save_safetensors(folder / "b", some_tensors());
  const std::string bytes = contents(folder / "a");
  EXPECT_EQ(bytes, contents(folder / "b"));
  EXPECT_EQ(static_cast<unsigned char>(bytes[0]) % 8, 0);
  EXPECT_THAT(bytes, HasSubstr(R"("exact":{"data_offsets":[0,16],"dtype":"F64","shape":[2]})"));
}

TEST(Safetensors, NoTensorsAtAll) {
  const Folder folder;
  save_safetensors(folder / "a", {}, {{"k", "v"}});
  const Safetensors got = load_safetensors(folder / "a");
  EXPECT_THAT(got.tensors, IsEmpty());
  EXPECT_EQ(got.metadata.at("k"), "v");
  EXPECT_THAT(read(file_of("{}", "")).tensors, IsEmpty());
}

TEST(Safetensors, TensorsOnTheCudaDevice) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const Folder folder;
  save_safetensors(folder / "a", {{"w", Tensor::from<float>({1, 2}, {2}).to(Device::cuda)}});
  EXPECT_EQ(load_safetensors(folder / "a").tensors.at("w").to_vector<float>(),
            (std::vector<float>{1, 2}));
}

// As Python's safetensors lays a file out: metadata first, no blanks in the JSON, members in the
// order dtype, shape, data_offsets, padded to 8 bytes.
TEST(Safetensors, ReadsWhatPythonWrites) {
  const char data[] =
      "\x00\x00\x80\x3f\x00\x00\x00\x40"  // 1, 2
      "\x07\x00\x00\x00";                 // 7
  std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("n":{"dtype":"I32","shape":[],"data_offsets":[8,12]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const Safetensors got = read(file_of(header, std::string(data, 12)));
  EXPECT_EQ(got.metadata.at("format"), "pt");
  EXPECT_EQ(got.tensors.at("b").to_vector<float>(), (std::vector<float>{1, 2}));
  EXPECT_EQ(got.tensors.at("n").item(), 7);
}

TEST(Safetensors, RefusesEveryKindOfDamage) {
  const auto tensor = [](const std::string& dtype, const std::string& shape,
                         const std::string& offsets) {
    return R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
           "}}";
  };
  const std::string eight(8, 'x');
  struct Damage {
    std::string header, data, reason;
  };
  const std::vector<Damage> cases = {
      {"", "", "does not begin with {"},
      {"[]", "", "does not begin with {"},
      {" {}", "", "does not begin with {"},
      {"{", "", "is not JSON"},
      {"{}x", "", "is not JSON"},
      {"{\"\xff\":1}", "", "is not JSON"},
      {R"({"w":1})", "", "wanted an object"},
      {R"({"w":null})", "", "wanted an object"},
      {R"({"w":{}})", "", "0 members"},
      {R"({"w":{"dtype":"F32","shape":[2],"offsets":[0,8]}})", eight, "no \"data_offsets\""},
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", eight, "4 members"},
      {R"({"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", eight,
       "\"dtype\" twice"},
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       eight, "\"w\" twice"},
      {R"({"__metadata__":[]})", "", "__metadata__ is array"},
      {R"({"__metadata__":{"a":1}})", "", "wanted a string"},
      {R"({"__metadata__":{"a":"x","a":"y"}})", "", "\"a\" twice"},
      {tensor("\"F16\"", "[4]", "[0,8]"), eight, "has dtype \"F16\""},
      {tensor("7", "[2]", "[0,8]"), eight, "has dtype 7"},
      {tensor("\"F32\"", "2", "[0,8]"), eight, "shape is 2, wanted an array"},
      {tensor("\"F32\"", "[2" + repeated(",1", 32) + "]", "[0,8]"), eight, "at most 32"},
      {tensor("\"F32\"", "[[2]]", "[0,8]"), eight, "nested too deeply"},
      {tensor("\"F32\"", "[-2]", "[0,8]"), eight, "shape holds -2"},
      {tensor("\"F32\"", "[2.0]", "[0,8]"), eight, "shape holds 2.0"},
      {tensor("\"F32\"", "[\"2\"]", "[0,8]"), eight, "shape holds \"2\""},
      {tensor("\"F32\"", "[18446744073709551615]", "[0,8]"), eight, "2^63"},
      {tensor("\"F32\"", "[18446744073709551618]", "[0,8]"), eight, "2^63"},
      {tensor("\"F32\"", "[4611686018427387904]", "[0,0]"), "", "overflows"},
      {tensor("\"F32\"", "[4294967296,4294967296,0]", "[0,0]"), "", "overflows"},
      {tensor("\"F32\"", "[2]", "[0]"), eight, "wanted [begin, end]"},
      {tensor("\"F32\"", "[2]", "[0,8,8]"), eight, "wanted [begin, end]"},
      {tensor("\"F32\"", "[2]", "8"), eight, "wanted [begin, end]"},
      {tensor("\"F32\"", "[2]", "[-8,0]"), eight, "data_offsets holds -8"},
      {tensor("\"F32\"", "[2]", "[8,0]"), eight, "do not hold the 8 bytes"},
      {tensor("\"F32\"", "[2]", "[0,4]"), eight, "do not hold the 8 bytes"},
      {tensor("\"F64\"", "[2]", "[0,8]"), eight, "do not hold the 16 bytes"},
      {tensor("\"F32\"", "[2]", "[0,8]"), eight + "x", "take 8 bytes, the file has 9"},
      {tensor("\"F32\"", "[3]", "[0,12]"), eight, "take 12 bytes, the file has 8"},
      {tensor("\"F32\"", "[1]", "[4,8]"), eight, "belong to none"},
      {tensor("\"F32\"", "[0]", "[9223372036854775807,9223372036854775807]"), eight,
       "belong to none"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       eight, "inside another"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       eight, "inside another"},
      {R"({"w":{"dtype":")" + std::string(100000, 'F') + "\"" +
           R"(,"shape":[],"data_offsets":[]}})",
       "", "has dtype"},
      {"{\"w\":" + std::string(100000, '['), "", "nested too deeply"},
      {"{\"w\":" + std::string(1000, '{'), "", "is not JSON"},
  };
  for (const Damage& c : cases) {
    SCOPED_TRACE(c.header.substr(0, 200));
    expect_refused(file_of(c.header, c.data), c.reason);
  }
}

TEST(Safetensors, RefusesLengthsThatTheFileDoesNotHave) {
  expect_refused("", "has 0 bytes");
  expect_refused("1234567", "has 7 bytes");
  const std::string good = file_of("{}", "");
  for (const uint64_t length : {uint64_t{3}, kMaxSafetensorsHeader}) {
    std::string bytes = good;
    bytes.replace(0, 8, reinterpret_cast<const char*>(&length), 8);
    expect_refused(bytes, "the file has 2 after its first 8");
  }
  for (const uint64_t length : {kMaxSafetensorsHeader + 1, ~uint64_t{0}, ~uint64_t{7}}) {
    std::string bytes = good;
    bytes.replace(0, 8, reinterpret_cast<const char*>(&length), 8);
    expect_refused(bytes, "are allowed");
  }
}

TEST(Safetensors, TruncatedAtEveryByte) {
  const Folder folder;
  save_safetensors(folder / "a", some_tensors(), {{"k", "v"}});
  const std::string whole = contents(folder / "a");
  ASSERT_NO_THROW(read(whole));
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_THROW(read(whole.substr(0, length)), FormatError) << length << " bytes";
}

// A flipped bit of the length is always noticed; one of the header either is, or leaves a file
// that says something else and says it consistently; no flip does anything else.
TEST(Safetensors, EveryBitFlipped) {
  const Folder folder;
  save_safetensors(folder / "a", some_tensors(), {{"k", "v"}});
  const std::string whole = contents(folder / "a");
  uint64_t header = 0;
  std::copy_n(whole.data(), 8, reinterpret_cast<char*>(&header));
  int refused = 0;
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    try {
      const Safetensors got = read(bytes);
      EXPECT_GE(bit, 64u) << "a wrong length was believed";
      int64_t total = 0;
      for (const auto& [name, t] : got.tensors) total += t.bytes();
      EXPECT_EQ(total, static_cast<int64_t>(whole.size() - 8 - header));
    } catch (const FormatError&) {
      EXPECT_LT(bit, 64 + header * 8) << "a flipped bit of the data was refused";
      ++refused;
    }
  }
  EXPECT_GT(refused, static_cast<int>(header) * 4);
}

TEST(Safetensors, RefusesToWriteWhatItCouldNotRead) {
  const Folder folder;
  const Tensor one = Tensor::from<float>({1}, {1});
  EXPECT_THROW(save_safetensors(folder / "a", {{"__metadata__", one}}), FormatError);
  EXPECT_THROW(save_safetensors(folder / "a", {{"\xff", one}}), FormatError);
  EXPECT_THROW(save_safetensors(folder / "a", {{"w", one}}, {{"k", "\xff"}}), FormatError);
  EXPECT_THROW(save_safetensors(folder / "a", {{"w", Tensor()}}), TypeError);
  EXPECT_THROW(save_safetensors(folder / "a", {}, {{"k", std::string(kMaxSafetensorsHeader, 'x')}}),
               FormatError);
  EXPECT_THAT(folder.names(), IsEmpty());
}

TEST(Safetensors, SaysWhatTheSystemRefused) {
  const Folder folder;
  const auto message = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const IoError& e) {
      return e.what();
    }
    return "nothing was thrown";
  };
  EXPECT_THAT(message([&] { load_safetensors(folder / "absent"); }),
              AllOf(HasSubstr("absent: "), HasSubstr("No such file or directory")));
  EXPECT_THAT(message([&] { load_safetensors(folder / ""); }), HasSubstr("is not a file"));
  EXPECT_THAT(message([&] { save_safetensors(folder / "no/a", some_tensors()); }),
              HasSubstr("cannot be created: No such file or directory"));
  std::filesystem::create_directory(folder / "taken");
  EXPECT_THAT(message([&] { save_safetensors(folder / "taken", some_tensors()); }),
              HasSubstr("cannot be given its name: Is a directory"));
  EXPECT_THAT(folder.names(), testing::ElementsAre("taken"));
}

// A limit on the size of files stands for the full disk: writing fails halfway.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(Safetensors, FailedWriteLeavesTheOldFile) {
  const Folder folder;
  save_safetensors(folder / "a", some_tensors());
  const std::string before = contents(folder / "a");
  const NamedTensors big = {{"big", Tensor::zeros({100000})}};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // then write() reports EFBIG
  std::string message;
  try {
    const FileSizeLimit limit(65536);
    save_safetensors(folder / "a", big);
  } catch (const IoError& e) {
    message = e.what();
  }
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, AllOf(HasSubstr((folder / "a").string()), HasSubstr("cannot be written")));
  EXPECT_EQ(contents(folder / "a"), before);
  EXPECT_THAT(folder.names(), testing::ElementsAre("a"));
}

// Whoever may not read the folder cannot sync it: refused while the old file is still there. In a
// process of its own, because root may read everything.
TEST(SafetensorsDeathTest, FolderThatCannotBeReadKeepsTheOldFile) {
  const Folder folder;
  save_safetensors(folder / "a", some_tensors());
  const std::string before = contents(folder / "a");
  std::filesystem::permissions(folder / "", std::filesystem::perms{0333});
  EXPECT_EXIT(
      {
        constexpr uid_t kNobody = 65534;
        if (::geteuid() == 0) (void)::seteuid(kNobody);
        try {
          save_safetensors(folder / "a", {{"other", Tensor::zeros({3})}});
        } catch (const IoError& e) {
          std::fputs(e.what(), stderr);
          std::_Exit(1);
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(1), "its folder cannot be opened: Permission denied");
  std::filesystem::permissions(folder / "", std::filesystem::perms{0700});
  EXPECT_EQ(contents(folder / "a"), before);
  EXPECT_THAT(folder.names(), testing::ElementsAre("a"));
}

TEST(SafetensorsDeathTest, KilledWriteLeavesTheOldFile) {
  const Folder folder;
  save_safetensors(folder / "a", some_tensors());
  const std::string before = contents(folder / "a");
  EXPECT_EXIT(
      {
        const FileSizeLimit limit(65536);
        std::signal(SIGXFSZ, SIG_DFL);
        save_safetensors(folder / "a", {{"big", Tensor::zeros({100000})}});
      },
      testing::KilledBySignal(SIGXFSZ), "");
  EXPECT_EQ(contents(folder / "a"), before);
}

}  // namespace
}  // namespace stillpoint::io
