#include "engine/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <istream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "engine/io/atomic_file.h"

namespace stillpoint::io {
namespace {

using Json = nlohmann::json;
static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr const char* kMetadataKey = "__metadata__";
constexpr int kMaxDepth = 2;  // {"name": {"shape": [
constexpr size_t kMaxRank = 32;

struct Entry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  uint64_t begin = 0, end = 0;  // bytes, from the end of the header
};

const char* file_name(DType dtype) {
  return dtype == DType::f32 ? "F32" : dtype == DType::f64 ? "F64" : "I32";
}

char* bytes_of(Tensor& t) {
  if (t.dtype() == DType::f64) return reinterpret_cast<char*>(t.mutable_data<double>());
  if (t.dtype() == DType::i32) return reinterpret_cast<char*>(t.mutable_data<int32_t>());
  return reinterpret_cast<char*>(t.mutable_data<float>());
}

// What a message quotes of a file is short, however long a hostile one makes it.
std::string shortened(const std::string& text) {
  constexpr size_t kLongest = 100;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}
std::string shown(const Json& value) { return shortened(value.dump()); }

// ---- reading -----------------------------------------------------------------------------------

// nlohmann::json keeps the last of equal keys and nests as deep as the text does; here the first is
// an error (two readers might disagree about the file), and so is depth.
Json parse_json(const std::string& text, const std::string& file) {
  std::vector<std::set<std::string>> keys(kMaxDepth + 1);
  const auto examine = [&](int depth, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      check<FormatError>(depth <= kMaxDepth, "{}: the header is nested too deeply", file);
      keys[static_cast<size_t>(depth)].clear();
    } else if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      check<FormatError>(keys[static_cast<size_t>(depth) - 1].insert(key).second,
                         "{}: the header has the key \"{}\" twice", file, shortened(key));
    }
    return true;
  };
  try {
    return Json::parse(text, examine);
  } catch (const Json::exception& e) {
    throw FormatError(fmt::format("{}: the header is not JSON: {}", file, shortened(e.what())));
  }
}

const Json& member(const Json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  check<FormatError>(found != object.end(), "{} has no \"{}\"", where, key);
  return *found;
}

uint64_t natural(const Json& value, const std::string& where, const char* what) {
  check<FormatError>(
      value.is_number_unsigned() && value.get<uint64_t>() <= std::numeric_limits<int64_t>::max(),
      "{}: {} holds {}, wanted a whole number from 0 to 2^63 - 1", where, what, shown(value));
  return value.get<uint64_t>();
}

DType parse_dtype(const Json& value, const std::string& where) {
  for (const DType dtype : {DType::f32, DType::f64, DType::i32})
    if (value == file_name(dtype)) return dtype;
  throw FormatError(
      fmt::format("{} has dtype {}, wanted \"F32\", \"F64\" or \"I32\"", where, shown(value)));
}

Entry parse_entry(const std::string& name, const Json& value, const std::string& file) {
  const std::string where = fmt::format("{}: tensor \"{}\"", file, shortened(name));
  check<FormatError>(value.is_object(), "{} is {}, wanted an object", where, value.type_name());
  check<FormatError>(value.size() == 3,
                     "{} has {} members, wanted dtype, shape and data_offsets alone", where,
                     value.size());
  Entry entry;
  entry.name = name;
  entry.dtype = parse_dtype(member(value, "dtype", where), where);

  const Json& shape = member(value, "shape", where);
  check<FormatError>(shape.is_array() && shape.size() <= kMaxRank,
                     "{}: shape is {}, wanted an array of at most {} numbers", where, shown(shape),
                     kMaxRank);
  int64_t size = size_of(entry.dtype);
  for (const Json& dimension : shape) {
    entry.shape.push_back(static_cast<int64_t>(natural(dimension, where, "shape")));
    check<FormatError>(!__builtin_mul_overflow(size, entry.shape.back(), &size),
                       "{}: shape {} overflows", where, shown(shape));
  }

  const Json& offsets = member(value, "data_offsets", where);
  check<FormatError>(offsets.is_array() && offsets.size() == 2,
                     "{}: data_offsets is {}, wanted [begin, end]", where, shown(offsets));
  entry.begin = natural(offsets[0], where, "data_offsets");
  entry.end = natural(offsets[1], where, "data_offsets");
  check<FormatError>(
      entry.begin <= entry.end && entry.end - entry.begin == static_cast<uint64_t>(size),
      "{}: data_offsets {} do not hold the {} bytes of {} {}", where, shown(offsets), size,
      file_name(entry.dtype), shown(shape));
  return entry;
}

Metadata parse_metadata(const Json& value, const std::string& file) {
  check<FormatError>(value.is_object(), "{}: {} is {}, wanted an object", file, kMetadataKey,
                     value.type_name());
  Metadata metadata;
  for (const auto& [key, text] : value.items()) {
    check<FormatError>(text.is_string(), "{}: {}[\"{}\"] is {}, wanted a string", file,
                       kMetadataKey, shortened(key), text.type_name());
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

// The tensors must fill the data from its first byte to its last, without overlap: then nothing can
// be allocated that the file does not hold, and nothing can hide in it.
void check_layout(std::vector<Entry>& entries, uint64_t data_bytes, const std::string& file) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t filled = 0;
  for (const Entry& e : entries) {
    check<FormatError>(e.begin >= filled, "{}: tensor \"{}\" begins at byte {} inside another",
                       file, shortened(e.name), e.begin);
    check<FormatError>(e.begin == filled, "{}: bytes {} to {} before tensor \"{}\" belong to none",
                       file, filled, e.begin, shortened(e.name));
    filled = e.end;
  }
  check<FormatError>(filled == data_bytes, "{}: the tensors take {} bytes, the file has {}", file,
                     filled, data_bytes);
}

void read_exactly(std::istream& stream, char* to, uint64_t count, const std::string& file) {
  stream.read(to, static_cast<std::streamsize>(count));
  check<IoError>(static_cast<uint64_t>(stream.gcount()) == count,
                 "{}: cannot be read: {} bytes wanted, {} came", file, count, stream.gcount());
}

// ---- writing -----------------------------------------------------------------------------------

std::string header_text(const std::vector<std::pair<std::string, Tensor>>& order,
                        const Metadata& metadata, const std::string& file) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  int64_t end = 0;
  for (const auto& [name, t] : order) {
    check<FormatError>(name != kMetadataKey, "{}: no tensor may be named \"{}\"", file,
                       kMetadataKey);
    const int64_t begin = std::exchange(end, end + t.bytes());
    header[name] = {
        {"dtype", file_name(t.dtype())}, {"shape", t.shape()}, {"data_offsets", {begin, end}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception& e) {
    throw FormatError(fmt::format("{}: a name or a text is not UTF-8: {}", file, e.what()));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the elements are aligned
  check<FormatError>(text.size() <= kMaxSafetensorsHeader,
                     "{}: the header would take {} bytes, at most {} are allowed", file,
                     text.size(), kMaxSafetensorsHeader);
  return text;
}

}  // namespace

void save_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                      const Metadata& metadata) {
  const std::string file = path.string();
  for (const auto& [name, t] : tensors)
    check<TypeError>(t.defined(), "{}: tensor \"{}\" is undefined", file, name);
  // Wide elements first: then each is aligned to its own size.
  std::vector<std::pair<std::string, Tensor>> order(tensors.begin(), tensors.end());
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return size_of(a.second.dtype()) > size_of(b.second.dtype());
  });
  const std::string header = header_text(order, metadata, file);
  const uint64_t length = header.size();

  AtomicFile out(path);
  out.write(&length, sizeof length);
  out.write(header.data(), header.size());
  for (const auto& named : order) {
    Tensor t = named.second.to(Device::cpu);
    out.write(bytes_of(t), static_cast<size_t>(t.bytes()));
  }
  out.commit();
}

Safetensors load_safetensors(const std::filesystem::path& path) {
  // A folder opens as a stream, and a pipe would be waited for.
  std::error_code error;
  const bool regular = std::filesystem::is_regular_file(path, error);
  check<IoError>(!error, "{}: cannot be opened: {}", path.string(), error.message());
  check<IoError>(regular, "{}: is not a file", path.string());
  std::ifstream stream(path, std::ios::binary);
  check<IoError>(stream.is_open(), "{}: cannot be opened", path.string());
  return read_safetensors(stream, path.string());
}

Safetensors read_safetensors(std::istream& stream, const std::string& name) {
  stream.seekg(0, std::ios::end);
  const std::streamoff total = stream.tellg();
  stream.seekg(0);
  check<IoError>(total >= 0 && stream.good(), "{}: cannot be read: it has no size", name);
  const auto size = static_cast<uint64_t>(total);
  uint64_t length = 0;
  check<FormatError>(size >= sizeof length, "{}: has {} bytes, wanted 8 or more", name, size);
  read_exactly(stream, reinterpret_cast<char*>(&length), sizeof length, name);
  check<FormatError>(length <= kMaxSafetensorsHeader,
                     "{}: the header claims {} bytes, at most {} are allowed", name, length,
                     kMaxSafetensorsHeader);
  check<FormatError>(length <= size - sizeof length,
                     "{}: the header claims {} bytes, the file has {} after its first 8", name,
                     length, size - sizeof length);
  std::string text(length, '\0');
  read_exactly(stream, text.data(), length, name);
  check<FormatError>(!text.empty() && text.front() == '{', "{}: the header does not begin with {{",
                     name);

  const Json header = parse_json(text, name);
  Safetensors result;
  std::vector<Entry> entries;
  for (const auto& [key, value] : header.items()) {
    if (key == kMetadataKey) {
      result.metadata = parse_metadata(value, name);
    } else {
      entries.push_back(parse_entry(key, value, name));
    }
  }
  check_layout(entries, size - sizeof length - length, name);
  for (Entry& e : entries) {
    Tensor t = Tensor::empty(std::move(e.shape), {.dtype = e.dtype});
    read_exactly(stream, bytes_of(t), e.end - e.begin, name);
    result.tensors.emplace(std::move(e.name), std::move(t));
  }
  return result;
}

}  // namespace stillpoint::io
