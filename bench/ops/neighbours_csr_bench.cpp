#include <fmt/format.h>

#include "bench/support/bench.h"
#include "bench/support/clock.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

// Lists of 20 neighbours of which every seventh is none.
std::vector<int32_t> lists(int64_t entries, int64_t keys) {
  std::vector<int32_t> v;
  for (int64_t e = 0; e < entries; ++e)
    v.push_back(e % 7 == 0 ? -1 : static_cast<int32_t>(e * 31 % keys));
  return v;
}

bool in_place(const std::vector<int32_t>& neighbours, int64_t per_sample, int64_t keys,
              const ops::NeighboursCsr& csr) {
  std::vector<int32_t> wanted, got = csr.indices.to_vector<int32_t>();
  for (size_t e = 0; e < neighbours.size(); ++e)
    if (neighbours[e] >= 0)
      wanted.push_back(neighbours[e] +
                       static_cast<int32_t>(static_cast<int64_t>(e) / per_sample * keys));
  got.resize(wanted.size());
  return got == wanted;
}

void run(benchmark::State& state, Device device, int64_t batch, int64_t nodes) {
  constexpr int64_t kCount = 20;
  const std::vector<int32_t> neighbours = lists(batch * nodes * kCount, nodes);
  const Tensor here = Tensor::from(neighbours, {batch, nodes, kCount}).to(device);
  const auto call = [&] { return ops::neighbours_csr(here, nodes); };
  if (!in_place(neighbours, nodes * kCount, nodes, call())) {
    state.SkipWithError("the entries are not those of the lists");
    return;
  }
  const double bytes = 4.0 * static_cast<double>(2 * here.numel() + batch * nodes + 1);
  time(state, device, {.bytes = bytes}, Cache::warm, [&] { call(); });
}

bool add_case(int64_t batch, int64_t nodes) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!timeable(device)) continue;
    benchmark::RegisterBenchmark(
        fmt::format("neighbours_csr/{}x{}x20/forward/{}", batch, nodes, stillpoint::name(device))
            .c_str(),
        [=](benchmark::State& state) { run(state, device, batch, nodes); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
  return true;
}

// The cells of 64 Sudokus, and a long sequence.
const bool kAdded = add_case(64, 81) && add_case(1, 16384);

}  // namespace
}  // namespace stillpoint::bench
