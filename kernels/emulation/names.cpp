// Words for messages: threads, places in the source, functions.
#include <cstring>
#include <string>

#include "kernels/emulation/block.h"

namespace stillpoint::emulation {
namespace {

std::string describe(const char* what, const uint3& v) {
  return std::string(what) + " (" + std::to_string(v.x) + "," + std::to_string(v.y) + "," +
         std::to_string(v.z) + ")";
}

}  // namespace

std::string describe(const Thread& thread) { return describe("thread", thread.index); }

std::string describe(const Site& site) {
  const char* slash = std::strrchr(site.file_name(), '/');
  return std::string(slash ? slash + 1 : site.file_name()) + ":" + std::to_string(site.line());
}

std::string describe_block() {
  return "kernel " + function_name(block.launch->kernel) + ", " + describe("block", blockIdx);
}

bool same_site(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

}  // namespace stillpoint::emulation
