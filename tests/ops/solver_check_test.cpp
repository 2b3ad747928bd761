#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/implicit/solver_state.h"
#include "kernels/solver_check/solver_check.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::Residual;
using testing::ElementsAre;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Three checks in a row; gives all of the state, a float each.
Tensor run(std::span<const Tensor> in, Residual residual) {
  const int64_t batch = in[0].dim(0);
  const implicit::Active all = implicit::all_of(batch, in[0].device());
  implicit::Progress progress(
      in[0], {.tolerance = 0.5, .max_iterations = 8, .residual = residual, .look_every = 3});
  for (size_t k = 0; k + 1 < in.size(); ++k) progress.check(in[k], in[k + 1], all);
  std::vector<double> state = progress.residuals();
  for (const double x : progress.best_differences()) state.push_back(x);
  for (const double x : progress.best_scales()) state.push_back(x);
  for (const int32_t x : progress.status().to_vector<int32_t>()) state.push_back(x);
  const Tensor best = progress.best().to(Device::cpu).to(DType::f64);
  for (const double x : best.to_vector<double>()) state.push_back(x);
  return Tensor::from(state, {static_cast<int64_t>(state.size())})
      .to(in[0].dtype())
      .to(in[0].device());
}

OpCase make_case(const std::string& name, Shape shape, Residual residual) {
  return {.name = name,
          .inputs = {random_tensor(shape, 1), random_tensor(shape, 2), random_tensor(shape, 3),
                     random_tensor(shape, 4)},
          .op = [=](std::span<const Tensor> x) { return run(x, residual); },
          .derivatives = Derivatives::none};
}

TEST(SolverCheck, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes)
    for (const Residual residual : {Residual::relative, Residual::absolute}) {
      cases.push_back(make_case("elements_" + std::to_string(n), {3, n}, residual));
      cases.push_back(make_case("samples_" + std::to_string(n), {n, 5}, residual));
    }
  cases.push_back(make_case("several_chunks", {40, 2000}, Residual::relative));
  check_op("solver_check", cases);
}

struct State {
  std::vector<double> residual, best;
  std::vector<int32_t> status;
};

State check_once(const Tensor& z, const Tensor& fz, Residual residual) {
  implicit::Progress progress(z, {.tolerance = 0.5, .residual = residual});
  progress.check(z, fz, implicit::all_of(z.dim(0), z.device()));
  return {progress.residuals(), progress.best_differences(),
          progress.status().to_vector<int32_t>()};
}

TEST(SolverCheck, ByHandOnEveryBackend) {
  using kernels::kSolverConverged, kernels::kSolverNotFinite, kernels::kSolverRunning;
  // Running; converged; NaN; infinite; both zero; on its way to zero.
  const Tensor z = Tensor::from<double>({0, 0, 3, 4, 1, 1, 1, 1, 0, 0, 3, 4}, {6, 2});
  const Tensor fz = Tensor::from<double>({3, 4, 3, 4.5, kNan, 1, kInf, 1, 0, 0, 0, 0}, {6, 2});
  for (const auto& [dtype, device] :
       {std::pair{DType::f64, Device::cpu}, std::pair{DType::f32, Device::cpu},
        std::pair{DType::f32, Device::cuda}}) {
    if (!available(device)) continue;
    const State absolute =
        check_once(z.to(dtype).to(device), fz.to(dtype).to(device), Residual::absolute);
    EXPECT_EQ(absolute.residual[0], 5);
    EXPECT_EQ(absolute.residual[1], 0.5);
    EXPECT_TRUE(std::isnan(absolute.residual[2]));
    EXPECT_TRUE(std::isnan(absolute.residual[3]));
    EXPECT_EQ(absolute.residual[4], 0);
    EXPECT_EQ(absolute.residual[5], 5);
    EXPECT_THAT(absolute.best, ElementsAre(5, 0.5, kInf, kInf, 0, 5));
    const std::vector<int32_t> statuses = {kSolverRunning,   kSolverConverged, kSolverNotFinite,
                                           kSolverNotFinite, kSolverConverged, kSolverRunning};
    EXPECT_EQ(absolute.status, statuses);
    const State relative =
        check_once(z.to(dtype).to(device), fz.to(dtype).to(device), Residual::relative);
    EXPECT_EQ(relative.residual[0], 1);
    EXPECT_DOUBLE_EQ(relative.residual[1], 0.5 / std::hypot(3, 4.5));
    EXPECT_EQ(relative.residual[4], 0);
    EXPECT_EQ(relative.residual[5], kInf);
    EXPECT_EQ(relative.best[5], 5);
    EXPECT_EQ(relative.status, statuses);
  }
}

// What a sample was when it was done is what it stays.
TEST(SolverCheck, DoneSamplesKeepTheirBest) {
  implicit::Progress progress(Tensor::zeros({2, 1}),
                              {.tolerance = 0.1, .residual = Residual::absolute});
  const implicit::Active all = implicit::all_of(2, Device::cpu);
  progress.check(Tensor::from<float>({1, 1}, {2, 1}), Tensor::from<float>({1.05f, 2}, {2, 1}), all);
  progress.check(Tensor::from<float>({5, 5}, {2, 1}), Tensor::from<float>({5, 5.5f}, {2, 1}), all);
  progress.check(Tensor::from<float>({6, 6}, {2, 1}), Tensor::from<float>({6, 9}, {2, 1}), all);
  EXPECT_THAT(progress.best().to_vector<float>(), ElementsAre(1, 5));
  EXPECT_TRUE(std::isnan(progress.residuals()[0]));
  EXPECT_EQ(progress.residuals()[1], 3);
}

}  // namespace
}  // namespace stillpoint::test
