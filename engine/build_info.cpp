#include "engine/build_info.h"

#include <fmt/format.h>
#include <hwy/highway.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "build_options.h"

#if defined(STILLPOINT_PRODUCT_LIBRARY)
#include <dnnl.h>
#endif
#if defined(STILLPOINT_CUDA_EMULATED)
#include <boost/version.hpp>
#elif defined(STILLPOINT_HAVE_CUDA)
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusparse.h>
#endif

namespace stillpoint {
namespace {

// 100 major + minor, and so on: how C libraries write versions.
template <class... Units>
std::string dotted(int number, Units... units) {
  std::string text;
  ((text += fmt::format("{}{}", text.empty() ? "" : ".", number / units), number %= units), ...);
  return text;
}

}  // namespace

BuildInfo build_info() {
  BuildInfo info{.version = STILLPOINT_VERSION,
                 .compiler = STILLPOINT_COMPILER,
                 .build_type = STILLPOINT_BUILD_TYPE,
                 .flags = STILLPOINT_COMPILE_FLAGS,
                 .options = STILLPOINT_OPTIONS,
                 .libraries = {}};
  const auto add = [&](const char* name, std::string version) {
    info.libraries.push_back({name, std::move(version)});
  };
  add("highway", fmt::format("{}.{}", HWY_MAJOR, HWY_MINOR));
  add("openmp", fmt::format("{}", _OPENMP));
  add("fmt", dotted(FMT_VERSION, 10000, 100, 1));
  add("json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                          NLOHMANN_JSON_VERSION_PATCH));
#if defined(STILLPOINT_PRODUCT_LIBRARY)
  const dnnl_version_t* dnnl = dnnl_version();
  add("onednn", fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch));
#endif
#if defined(STILLPOINT_CUDA_EMULATED)
  add("boost.context", dotted(BOOST_VERSION, 100000, 100, 1));
#elif defined(STILLPOINT_HAVE_CUDA)
  int runtime = 0;
  int driver = 0;
  add("cuda runtime",
      cudaRuntimeGetVersion(&runtime) == cudaSuccess ? dotted(runtime, 1000, 10) : "?");
  add("cuda driver", cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0
                         ? dotted(driver, 1000, 10)
                         : "none");
  add("cublas", fmt::format("{}.{}.{}", CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR, CUBLAS_VER_PATCH));
  add("cusparse",
      fmt::format("{}.{}.{}", CUSPARSE_VER_MAJOR, CUSPARSE_VER_MINOR, CUSPARSE_VER_PATCH));
#endif
  return info;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    if (begin != std::string::npos && line.find(':') != std::string::npos)
      return line.substr(begin);
  }
  return "unknown";
}

}  // namespace stillpoint
