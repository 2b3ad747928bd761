// From an address in the program to a function and a source line, by binutils' addr2line. Only
// messages need it, so its cost does not matter.
#include <link.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/emulation/block.h"

namespace stillpoint::emulation {
namespace {

struct Module {
  uintptr_t address = 0, bias = 0;
  std::string file;
};

int find_module(dl_phdr_info* info, size_t, void* result) {
  Module& module = *static_cast<Module*>(result);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type != PT_LOAD || module.address < begin ||
        module.address >= begin + segment.p_memsz) {
      continue;
    }
    module.bias = info->dlpi_addr;
    module.file = *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";
    return 1;
  }
  return 0;
}

// What addr2line says: function, newline, file:line; inlined callers follow in the same way.
std::string ask_addr2line(const void* address, const char* options) {
  Module module{reinterpret_cast<uintptr_t>(address), 0, {}};
  if (dl_iterate_phdr(find_module, &module) == 0) return "";
  char exe[4096];
  if (module.file == "/proc/self/exe") {
    if (realpath(module.file.c_str(), exe) == nullptr) return "";
    module.file = exe;
  }
  char offset[32];
  std::snprintf(offset, sizeof offset, "0x%zx", module.address - module.bias);
  const std::string command = "addr2line -C " + std::string(options) + " -e '" + module.file +
                              "' " + offset + " 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (!pipe) return "";
  std::string text;
  std::array<char, 512> buffer;
  while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), pipe.get()))
    text += buffer.data();
  return text;
}

const std::string& addr2line(const void* address, const char* options) {
  static auto& known = *new std::map<std::pair<const void*, std::string>, std::string>;
  const auto [entry, fresh] = known.try_emplace({address, options});
  if (fresh) entry->second = ask_addr2line(address, options);
  return entry->second;
}

// "stillpoint::kernels::(anonymous namespace)::relu(float*, long)" -> "relu"
std::string short_name(std::string name) {
  constexpr const char* kAnonymous = "(anonymous namespace)::";
  for (size_t at; (at = name.find(kAnonymous)) != std::string::npos;) {
    name.erase(at, std::string(kAnonymous).size());
  }
  int depth = 0;
  size_t begin = 0, end = name.size();
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (depth > 0) continue;
    if (name[i] == '(') {
      end = i;
      break;
    }
    if (name[i] == ':' || name[i] == ' ') begin = i + 1;
  }
  return name.substr(begin, end - begin);
}

// What cannot be written: constants, also those that the loader filled in.
int add_constants(dl_phdr_info* info, size_t, void* result) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const bool constant = segment.p_type == PT_LOAD && (segment.p_flags & PF_W) == 0;
    if (!constant && segment.p_type != PT_GNU_RELRO) continue;
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    uintptr_t& end = (*static_cast<std::map<uintptr_t, uintptr_t>*>(result))[begin];
    end = std::max<uintptr_t>(end, begin + segment.p_memsz);
  }
  return 0;
}

// What a build for coverage counts in, by binutils' nm.
void add_gcov_counters(std::map<uintptr_t, uintptr_t>* ranges) {
  uintptr_t bias = 0;
  const auto first = [](dl_phdr_info* info, size_t, void* result) {
    *static_cast<uintptr_t*>(result) = info->dlpi_addr;
    return 1;
  };
  dl_iterate_phdr(first, &bias);  // the program comes first
  char exe[4096];
  if (realpath("/proc/self/exe", exe) == nullptr) return;
  const std::string command = std::string("nm -S '") + exe + "' 2>/dev/null | grep ' __gcov'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  char line[4096];
  while (pipe && std::fgets(line, sizeof line, pipe.get()) != nullptr) {
    char* rest = nullptr;
    const uintptr_t begin = bias + std::strtoull(line, &rest, 16);
    (*ranges)[begin] = begin + std::strtoull(rest, nullptr, 16);
  }
}

}  // namespace

std::string function_name(const void* address) {
  const std::string& text = addr2line(address, "-f");
  const std::string name = short_name(text.substr(0, text.find('\n')));
  return name.empty() || name == "??" ? "(unnamed)" : name;
}

std::string source_line(const void* return_address) {
  // The call ends just before its return address. Innermost first: inlined helper, ..., kernel.
  const std::string& text = addr2line(static_cast<const char*>(return_address) - 1, "-f -i");
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1) {
    lines.push_back(text.substr(begin, text.find('\n', begin) - begin));
  }
  if (lines.size() < 2) return "an unknown place";
  const auto place = [&](size_t i) {
    std::string where = lines[i + 1].substr(lines[i + 1].rfind('/') + 1);
    where = where.substr(0, where.find(' '));  // "(discriminator 2)"
    return where + " (" + short_name(lines[i]) + ")";
  };
  const size_t last = lines.size() / 2 * 2 - 2;
  return last == 0 ? place(0) : place(0) + ", called from " + place(last);
}

bool in_constant_data(const void* address) {
  static auto& ranges = *new std::map<uintptr_t, uintptr_t>;  // end by begin
  const auto p = reinterpret_cast<uintptr_t>(address);
  const auto found = [&] {
    const auto after = ranges.upper_bound(p);
    return after != ranges.begin() && p < std::prev(after)->second;
  };
  if (found()) return true;
  dl_iterate_phdr(add_constants, &ranges);  // again: libraries may have been loaded since
  if (found()) return true;
  add_gcov_counters(&ranges);
  return found();
}

}  // namespace stillpoint::emulation
