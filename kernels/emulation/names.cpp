// Words for messages: threads, places in the source, functions.
#include <cstdio>
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

std::string describe_place(const Thread& thread) {
  return describe(thread.site) +
         (thread.calls > 0 ? ", called from " + describe(thread.caller) : "");
}

std::string describe_block() {
  return "kernel " + function_name(block.launch->kernel) + ", " + describe("block", blockIdx);
}

std::string describe_waiting() {
  std::string text;
  int groups = 0;
  for (int i = 0; i < block.size && groups < 4; ++i) {
    const Thread& thread = block.threads[i];
    if (thread.state != Thread::State::at_barrier &&
        thread.state != Thread::State::in_warp_operation) {
      continue;
    }
    const auto same = [&](const Thread& other) {
      return other.state == thread.state && other.mask == thread.mask && same_place(other, thread);
    };
    bool seen = false;
    for (int j = 0; j < i && !seen; ++j) seen = same(block.threads[j]);
    if (seen) continue;
    int members = 0;
    for (int j = i; j < block.size; ++j) members += same(block.threads[j]);
    char mask[40] = "";
    const bool in_barrier = thread.state == Thread::State::at_barrier;
    if (!in_barrier) std::snprintf(mask, sizeof mask, " (mask 0x%08x)", thread.mask);
    text += (groups++ ? "; " : "") + std::to_string(members) + " threads, the first " +
            describe(thread) + ", wait in " + (in_barrier ? "__syncthreads" : name_of(thread.op)) +
            mask + " at " + describe_place(thread);
  }
  return text;
}

bool same_site(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

bool same_place(const Thread& a, const Thread& b) {
  return same_site(a.site, b.site) && same_site(a.caller, b.caller);
}

}  // namespace stillpoint::emulation
