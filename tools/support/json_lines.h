// A file of JSON objects, one a line, that a run appends to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>

namespace stillpoint::tools {

class JsonLines {
 public:
  enum class Open : uint8_t { fresh, resume };
  // fresh: an empty file. resume: for appending; lines whose "step" is greater than `step` are
  // dropped first, because a run that is taken up from a checkpoint makes those steps again. Throws
  // IoError.
  JsonLines(std::filesystem::path file, Open how, int64_t step);
  // Writes and flushes one line. Throws IoError.
  void write(const nlohmann::ordered_json& line);
  const std::filesystem::path& path() const { return path_; }

 private:
  const std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace stillpoint::tools
