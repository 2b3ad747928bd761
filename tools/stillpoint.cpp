// stillpoint: what this build is and what it found on this machine.
#include <fmt/format.h>
#include <sys/utsname.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "engine/build_info.h"
#include "engine/cuda/runtime.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "tools/support/console.h"

namespace {

using Json = nlohmann::ordered_json;

std::string operating_system() {
  utsname name{};
  if (::uname(&name) != 0) return "unknown";
  return fmt::format("{} {} {}", name.sysname, name.release, name.machine);
}

std::string instruction_set() {
  const std::string ignored = stillpoint::kernels::ignored_isa();
  const std::string note =
      ignored.empty() ? "" : fmt::format(" (STILLPOINT_ISA={} is not available)", ignored);
  return stillpoint::kernels::active_isa() + note;
}

Json info() {
  const stillpoint::BuildInfo build = stillpoint::build_info();
  Json libraries = Json::object();
  for (const auto& library : build.libraries) libraries[library.name] = library.version;
  return {{"version", build.version},
          {"cuda_device", stillpoint::cuda::device_name()},
          {"processor", stillpoint::processor_name()},
          {"processors", std::thread::hardware_concurrency()},
          {"threads", stillpoint::kernels::num_threads()},
          {"instruction_set", instruction_set()},
          {"instruction_sets", stillpoint::kernels::available_isas()},
          {"system", operating_system()},
          {"compiler", build.compiler},
          {"build_type", build.build_type},
          {"flags", build.flags},
          {"options", build.options},
          {"libraries", libraries}};
}

// One line per entry; the elements of a list or object on the same line.
void print_text(const Json& values) {
  const auto plain = [](const Json& v) { return v.is_string() ? v.get<std::string>() : v.dump(); };
  for (const auto& [key, value] : values.items()) {
    std::string text;
    for (const auto& [name, element] : value.items()) {
      if (!text.empty()) text += ", ";
      text += value.is_object() ? name + " " + plain(element) : plain(element);
    }
    std::string title = key;
    std::replace(title.begin(), title.end(), '_', ' ');
    std::printf("%-17s %s\n", title.c_str(), text.c_str());
  }
}

int run(int argc, char** argv) {
  CLI::App app("stillpoint: an engine for networks that think longer to answer better");
  app.set_version_flag("--version", stillpoint::build_info().version);
  app.require_subcommand(1);
  CLI::App* info_command = app.add_subcommand("info", "Print what a bug report needs");
  bool json = false;
  info_command->add_flag("--json", json, "As one JSON object");
  CLI11_PARSE(app, argc, argv);
  if (json) {
    std::puts(info().dump(2).c_str());
  } else {
    print_text(info());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return stillpoint::tools::run_main("stillpoint", [&] { return run(argc, argv); });
}
