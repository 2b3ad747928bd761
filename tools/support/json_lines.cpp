#include "tools/support/json_lines.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/error.h"
#include "engine/io/atomic_file.h"

namespace stillpoint::tools {
namespace {

// A line cut short by a crash is not kept.
bool belongs(const std::string& line, int64_t step) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) return false;
  const auto at = json.find("step");
  return at == json.end() || (at->is_number_integer() && at->get<int64_t>() <= step);
}

}  // namespace

JsonLines::JsonLines(std::filesystem::path file, Open how, int64_t step) : path_(std::move(file)) {
  if (std::ifstream before(path_); how == Open::resume && before) {
    io::AtomicFile kept(path_);
    for (std::string line; std::getline(before, line);) {
      if (!belongs(line, step)) continue;
      line += '\n';
      kept.write(line.data(), line.size());
    }
    kept.commit();
  }
  out_.open(path_, how == Open::resume ? std::ios::app : std::ios::trunc);
  check<IoError>(out_.good(), "cannot open {} for writing", path_.string());
}

void JsonLines::write(const nlohmann::ordered_json& line) {
  out_ << line.dump() << std::endl;
  check<IoError>(out_.good(), "cannot write to {}", path_.string());
}

}  // namespace stillpoint::tools
