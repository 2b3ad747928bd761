#include "kernels/common/simd.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <cstdlib>

namespace stillpoint::kernels {
namespace {

// Highway numbers its targets from best (lowest bit) to worst.
std::vector<int64_t> supported_bits() {
  std::vector<int64_t> bits;
  const int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
  for (int64_t bit = 1; bit != 0 && bit <= HWY_TARGETS; bit <<= 1)
    if (all & bit) bits.push_back(bit);
  return bits;
}

[[maybe_unused]] const bool kAppliedEnvironment = [] {
  const char* isa = std::getenv("STILLPOINT_ISA");
  return isa != nullptr && force_isa(isa);
}();

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const int64_t bit : supported_bits()) names.emplace_back(hwy::TargetName(bit));
  return names;
}

std::string active_isa() { return hwy::TargetName(supported_bits().front()); }

bool force_isa(const std::string& isa) {
  if (isa.empty()) {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    return true;
  }
  for (const int64_t bit : supported_bits())
    if (isa == hwy::TargetName(bit)) {
      hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & ~(bit - 1));
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      return true;
    }
  return false;
}

}  // namespace stillpoint::kernels
