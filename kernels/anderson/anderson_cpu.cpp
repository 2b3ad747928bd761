// anderson on the CPU: two passes over a row, each of which reads half of the history once. The
// first makes differences and adds up inner products in double, block by block.
#include "kernels/anderson/anderson.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/anderson/anderson_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "kernels/anderson/anderson_solve.h"
#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"
#include "kernels/common/row_sums-inl.h"
#include "kernels/solver_check/solver_check.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors, sums of rows

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr int64_t kBlock =
    1024;  // elements whose residuals and differences stay in the first cache

// The residual, and if there was an iterate before, the difference and the move since, in the place
// of that residual and iterate. Unless told that nothing overlaps, compilers do one element at a
// time.
HWY_INLINE void remember(const float* z, const float* fz, int64_t n, bool moved, float mixing,
                         float* HWY_RESTRICT g, float* HWY_RESTRICT newest,
                         float* HWY_RESTRICT move) {
  for (int64_t k = 0; k < n; ++k) {
    g[k] = fz[k] - z[k];
    if (!moved) continue;
    newest[k] = g[k] - newest[k];
    move[k] = z[k] - move[k] + mixing * newest[k];
  }
}

// Adds the inner products of kN differences, `stride` apart, with the newest and with g. Products
// of floats are exact in double, so that it is all one whether they are rounded before they are
// added.
template <int kN>
HWY_INLINE void add_dots(const float* dg, int64_t stride, const float* newest, const float* g,
                         int64_t n, double* with_newest, double* with_g) {
  const hn::ScalableTag<double> d;
  using Doubles = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Doubles of_newest[kN], of_g[kN];
  each<kN>([&](auto j) HWY_ATTR { of_newest[j] = of_g[j] = hn::Zero(d); });
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes) {
    const Doubles last = load_double(newest + k), residual = load_double(g + k);
    each<kN>([&](auto j) HWY_ATTR {
      const Doubles x = load_double(dg + j * stride + k);
      of_newest[j] = hn::MulAdd(x, last, of_newest[j]);
      of_g[j] = hn::MulAdd(x, residual, of_g[j]);
    });
  }
  each<kN>([&](auto j) HWY_ATTR {
    with_newest[j] += hn::GetLane(hn::SumOfLanes(d, of_newest[j]));
    with_g[j] += hn::GetLane(hn::SumOfLanes(d, of_g[j]));
    for (int64_t e = k; e < n; ++e) {
      const double x = dg[j * stride + e];
      with_newest[j] += x * static_cast<double>(newest[e]);
      with_g[j] += x * static_cast<double>(g[e]);
    }
  });
}

// next = z + mixing g - the moves, n apart, by their weights. Leaves g and z where the next
// difference and move will be; the oldest ones may be there.
HWY_INLINE void mix(const float* z, const float* fz, const float* moves, int64_t n, int columns,
                    const float* weights, float mixing, float* g_kept, float* z_kept, float* next) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  for_blocks<4>(n, [&](auto io, int64_t k, auto count) HWY_ATTR {
    V sum[count], from[count], g[count];
    each<count>([&](auto v) HWY_ATTR {
      const int64_t at = k + v * lanes;
      from[v] = io.load(z + at);
      g[v] = hn::Sub(io.load(fz + at), from[v]);
      sum[v] = hn::MulAdd(hn::Set(D(), mixing), g[v], from[v]);
    });
    for (int j = 0; j < columns; ++j) {
      const V weight = hn::Set(D(), weights[j]);
      each<count>([&](auto v) HWY_ATTR {
        sum[v] = hn::NegMulAdd(weight, io.load(moves + j * n + k + v * lanes), sum[v]);
      });
    }
    each<count>([&](auto v) HWY_ATTR {
      const int64_t at = k + v * lanes;
      io.store(g[v], g_kept + at);
      io.store(from[v], z_kept + at);
      io.store(sum[v], next + at);
    });
  });
}

void step_row(const AndersonArgs<float>& args, int64_t r) {
  const int64_t b = args.index[r], n = args.n;
  const int m = args.memory;
  const float* z = args.z + r * n;
  const float* fz = args.fz + r * n;
  float* next = args.next + r * n;
  if (args.status[b] != kSolverRunning) {
    if (next != z) std::copy_n(z, n, next);
    return;
  }
  float* moves = args.moves + b * m * n;
  float* dg = args.dg + b * m * n;
  const auto mixing = static_cast<float>(args.mixing);
  const int32_t count = args.count[b];
  const int slot = anderson_slot(count, m);
  const bool asks_how_far = args.begin <= kLargest;
  int columns = anderson_columns(count, m);
  double with_newest[kAndersonMemory] = {}, gamma[kAndersonMemory] = {};
  double g_squares = 0, fz_squares = 0;
  float g[kBlock];
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t size = std::min(kBlock, n - first);
    float* newest = dg + slot * n + first;
    remember(z + first, fz + first, size, count > 0, mixing, g, newest, moves + slot * n + first);
    if (asks_how_far) {
      g_squares += dot_in_double(g, g, size);
      fz_squares += dot_in_double(fz + first, fz + first, size);
    }
    int j = 0;
    for (; j + 4 <= columns; j += 4)
      add_dots<4>(dg + j * n + first, n, newest, g, size, with_newest + j, gamma + j);
    for (; j < columns; ++j)
      add_dots<1>(dg + j * n + first, n, newest, g, size, with_newest + j, gamma + j);
  }
  const bool far = asks_how_far && anderson_far(g_squares, fz_squares, args.begin);
  if (far) columns = 0;
  args.count[b] = far ? 1 : count + 1;
  const int64_t kept = anderson_slot(args.count[b], m) * n;
  double* gram = args.gram + b * m * m;
  for (int j = 0; j < columns; ++j) gram[j * m + slot] = gram[slot * m + j] = with_newest[j];
  double scratch[anderson_scratch(kAndersonMemory)];
  anderson_solve(gram, m, columns, args.ridge, gamma, scratch, 0, 1, [] {});
  float weights[kAndersonMemory];
  std::copy_n(gamma, columns, weights);
  mix(z, fz, moves, n, columns, weights, mixing, dg + kept, moves + kept, next);
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(step_row);

}  // namespace

void anderson(const AndersonArgs<float>& args) {
  // 4096 elements of each of the history's vectors, about 10 us.
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, args.n));
  parallel_for(args.rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) HWY_DYNAMIC_DISPATCH(step_row)(args, r);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
