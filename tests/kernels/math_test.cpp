// The vector functions of kernels/common/math-inl.h against libm in double, over all of float.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/math_test.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/common/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::test::HWY_NAMESPACE {
namespace {

namespace math = kernels::HWY_NAMESPACE;

template <class F>
void apply(const float* x, float* y, int64_t n, F f) {
  math::for_vectors(n, [&](auto io, int64_t k) { io.store(f(io.load(x + k)), y + k); });
}
void exp_all(const float* x, float* y, int64_t n) {
  apply(x, y, n, [](math::V v) { return math::exp(v); });
}
void sigmoid_all(const float* x, float* y, int64_t n) {
  apply(x, y, n, [](math::V v) { return math::sigmoid(v); });
}
void tanh_all(const float* x, float* y, int64_t n) {
  apply(x, y, n, [](math::V v) { return math::tanh(v); });
}
void log_all(const float* x, float* y, int64_t n) {
  apply(x, y, n, [](math::V v) { return math::log(v); });
}

}  // namespace
}  // namespace stillpoint::test::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/common/simd.h"

namespace stillpoint::test {
namespace {

HWY_EXPORT(exp_all);
HWY_EXPORT(sigmoid_all);
HWY_EXPORT(tanh_all);
HWY_EXPORT(log_all);

using Vectorised = void (*)(const float*, float*, int64_t);
using Exact = double (*)(double);

// Every 9973rd float of either sign, infinities, NaN, and both zeros.
std::vector<float> floats() {
  std::vector<float> all;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 9973)
    all.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  const float inf = std::numeric_limits<float>::infinity();
  for (const float x : {0.f, -0.f, inf, -inf, std::numeric_limits<float>::quiet_NaN()})
    all.push_back(x);
  return all;
}

void expect_accurate(const std::string& name, Vectorised f, Exact exact, double ulps) {
  const std::vector<float> x = floats();
  std::vector<float> y(x.size() + 1, 7.f);
  f(x.data(), y.data(), static_cast<int64_t>(x.size()));
  ASSERT_EQ(y.back(), 7.f) << name << " wrote past the end";
  int wrong = 0;
  for (size_t k = 0; k < x.size(); ++k) {
    const double wanted = exact(x[k]);
    const float rounded = std::abs(static_cast<float>(wanted));
    const float tiny = std::numeric_limits<float>::min();
    const double ulp = std::nextafter(std::max(rounded, tiny), 2 * std::max(rounded, tiny)) -
                       double{std::max(rounded, tiny)};
    const bool ok = std::isnan(wanted)    ? std::isnan(y[k])
                    : std::isinf(rounded) ? y[k] == static_cast<float>(wanted)
                    : rounded < tiny      ? std::abs(y[k] - wanted) <= double{tiny}
                                          : std::abs(y[k] - wanted) <= ulps * ulp;
    if (!ok && ++wrong <= 3)
      ADD_FAILURE() << name << " of " << x[k] << " is " << y[k] << ", wanted " << wanted;
  }
  EXPECT_EQ(wrong, 0) << name;
}

TEST(VectorMath, AccurateOnEveryInstructionSet) {
  const Exact sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  for (const std::string& isa : kernels::available_isas()) {
    SCOPED_TRACE(isa);
    ASSERT_TRUE(kernels::force_isa(isa));
    expect_accurate("exp", HWY_DYNAMIC_DISPATCH(exp_all), std::exp, 2);
    expect_accurate("sigmoid", HWY_DYNAMIC_DISPATCH(sigmoid_all), sigmoid, 3);
    expect_accurate("tanh", HWY_DYNAMIC_DISPATCH(tanh_all), std::tanh, 3);
    expect_accurate("log", HWY_DYNAMIC_DISPATCH(log_all), std::log, 2);
  }
  kernels::force_isa("");
}

}  // namespace
}  // namespace stillpoint::test
#endif  // HWY_ONCE
