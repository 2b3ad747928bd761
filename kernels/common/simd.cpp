#include "kernels/common/simd.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <cstdlib>

namespace stillpoint::kernels {
namespace {

// Highway numbers its targets from best (lowest bit) to worst.
std::vector<int64_t> bits_of(int64_t targets) {
  std::vector<int64_t> bits;
  const int64_t all = targets & HWY_TARGETS;
  for (int64_t bit = 1; bit != 0 && bit <= HWY_TARGETS; bit <<= 1)
    if (all & bit) bits.push_back(bit);
  return bits;
}

// `targets` without those better than `isa`; 0 if it is not among them.
int64_t restricted(int64_t targets, const std::string& isa) {
  for (const int64_t bit : bits_of(targets))
    if (isa == hwy::TargetName(bit)) return targets & ~(bit - 1);
  return 0;
}

void use(int64_t targets) {
  hwy::SetSupportedTargetsForTest(targets);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

struct Allowed {
  int64_t targets = hwy::SupportedTargets();
  std::string ignored;
};

// What the machine can run and the environment lets it; asked before anything is forced.
const Allowed& allowed() {
  static const Allowed found = [] {
    Allowed result;
    const char* isa = std::getenv("STILLPOINT_ISA");
    if (isa == nullptr || *isa == '\0') return result;
    if (const int64_t targets = restricted(result.targets, isa); targets != 0) {
      result.targets = targets;
    } else {
      result.ignored = isa;
    }
    return result;
  }();
  return found;
}

[[maybe_unused]] const bool kAppliedEnvironment = force_isa("");

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const int64_t bit : bits_of(allowed().targets)) names.emplace_back(hwy::TargetName(bit));
  return names;
}

std::string active_isa() { return hwy::TargetName(bits_of(hwy::SupportedTargets()).front()); }

std::string ignored_isa() { return allowed().ignored; }

bool force_isa(const std::string& isa) {
  const int64_t all = allowed().targets;
  const int64_t targets = isa.empty() ? all : restricted(all, isa);
  if (targets == 0) return false;
  use(targets);
  return true;
}

}  // namespace stillpoint::kernels
