#include "engine/stochastic/surrogate.h"

#include <algorithm>

#include "engine/ops.h"
#include "kernels/common/parallel.h"

namespace stillpoint::stochastic {
namespace {

constexpr const char* kOp = "surrogate_loss";
constexpr int64_t kRunsATime = 8;

void check_arguments(const Tensor& costs, const std::vector<Sampled>& sampled,
                     const SurrogateOptions& o, int64_t group) {
  check<ShapeError>(costs.rank() == 3 && costs.numel() > 0,
                    "{}: costs have shape {}, wanted [steps, runs, nodes], none of them 0", kOp,
                    costs.shape());
  const int64_t runs = costs.dim(1), nodes = costs.dim(2);
  check<OptionError>(o.draws >= 1 && runs % o.draws == 0,
                     "{}: {} draws of every board in {} runs, wanted a divisor of the runs", kOp,
                     o.draws, runs);
  check<OptionError>(o.baseline == Baseline::none || group > 1,
                     "{}: a baseline from other runs, but groups of one run; wanted 2 or more",
                     kOp);
  check<OptionError>(o.discount >= 0 && o.discount <= 1, "{}: a discount of {}, wanted 0 to 1", kOp,
                     o.discount);
  for (const Sampled& s : sampled) {
    check_like(s.log_prob, costs, kOp, "log_prob");
    check<ShapeError>(s.log_prob.rank() == 2 && s.log_prob.dim(0) == runs,
                      "{}: log_prob has shape {}, wanted [{}, samples]", kOp, s.log_prob.shape(),
                      runs);
    if (!s.hops) continue;
    check_dtype(s.hops, DType::i32, kOp, "hops");
    check_shape(s.hops, {runs, nodes, s.log_prob.dim(1)}, kOp, "hops");
  }
}

// The elements of a tensor [..., runs, width] in double, on the host, less what the other runs of
// their group have in the same place on average. A group of 0 leaves them as they are.
std::vector<double> advantages(const Tensor& t, int64_t group) {
  std::vector<double> values = t.detach().to(Device::cpu).to(DType::f64).to_vector<double>();
  if (group == 0) return values;
  const int64_t width = t.dim(-1), rows = t.numel() / width;
  for (int64_t first = 0; first < rows; first += group) {
    for (int64_t e = 0; e < width; ++e) {
      double* column = values.data() + first * width + e;
      double sum = 0;
      for (int64_t r = 0; r < group; ++r) sum += column[r * width];
      for (int64_t r = 0; r < group; ++r) {
        double& value = column[r * width];
        value -= (sum - value) / static_cast<double>(group - 1);
      }
    }
  }
  return values;
}

void discount(std::vector<double>& gain, int64_t steps, double by) {
  const auto step = std::ssize(gain) / steps;
  double share = 1;
  for (int64_t e = 0; e < std::ssize(gain); ++e) {
    if (e > 0 && e % step == 0) share *= by;
    gain[static_cast<size_t>(e)] *= share;
  }
}

// What the samples are credited with: credit[r, j] = the sum of gain[t, r, i] over the costs
// downstream of j.
std::vector<double> credits(const std::vector<double>& gain, const Shape& costs, const Sampled& s) {
  const int64_t steps = costs[0], runs = costs[1], nodes = costs[2];
  const int64_t samples = s.log_prob.dim(1);
  const std::vector<int32_t> hops = s.hops ? s.hops.to_vector<int32_t>() : std::vector<int32_t>{};
  std::vector<double> credit(static_cast<size_t>(runs * samples));
  kernels::parallel_for(runs, kRunsATime, [&](int64_t begin, int64_t end) {
    std::vector<double> from(static_cast<size_t>(steps));  // sums of a node's gains from t on
    for (int64_t r = begin; r < end; ++r) {
      double* to = credit.data() + r * samples;
      for (int64_t i = 0; i < nodes; ++i) {
        double sum = 0;
        for (int64_t t = steps - 1; t >= 0; --t) {
          sum += gain[static_cast<size_t>((t * runs + r) * nodes + i)];
          from[static_cast<size_t>(t)] = sum;
        }
        for (int64_t j = 0; j < samples; ++j) {
          const int64_t t =
              hops.empty() ? 0 : hops[static_cast<size_t>((r * nodes + i) * samples + j)];
          if (t >= 0 && t < steps) to[j] += from[static_cast<size_t>(t)];
        }
      }
    }
  });
  return credit;
}

}  // namespace

Tensor surrogate_loss(const Tensor& costs, const std::vector<Sampled>& sampled,
                      const SurrogateOptions& options) {
  check_floating(costs, kOp, "costs");
  const bool batch = options.baseline == Baseline::others_in_batch;
  const int64_t members = batch && costs.rank() == 3 ? costs.dim(1) : options.draws;
  check_arguments(costs, sampled, options, members);
  const int64_t group = options.baseline == Baseline::none ? 0 : members;
  std::vector<double> gain = advantages(costs, group);
  if (options.discount != 1) discount(gain, costs.dim(0), options.discount);
  Tensor loss = ops::mean(costs);
  for (const Sampled& s : sampled) {
    if (s.log_prob.numel() == 0) continue;
    std::vector<double> weight = credits(gain, costs.shape(), s);
    for (double& w : weight) w /= static_cast<double>(costs.numel());
    if (options.entropy != 0) {
      const std::vector<double> surprise = advantages(s.log_prob, group);
      const double share = options.entropy / static_cast<double>(s.log_prob.numel());
      for (size_t j = 0; j < weight.size(); ++j) weight[j] += share * surprise[j];
    }
    const Tensor constant = Tensor::from(weight, s.log_prob.shape()).to(s.log_prob.dtype());
    loss = ops::add(loss, ops::sum(ops::mul(s.log_prob, constant.to(s.log_prob.device()))));
  }
  return loss;
}

Tensor hops(const Tensor& neighbours, int64_t limit, int64_t late) {
  check_dtype(neighbours, DType::i32, "hops", "neighbours");
  check<ShapeError>(neighbours.rank() == 3,
                    "hops: neighbours have shape {}, wanted [runs, nodes, "
                    "k]",
                    neighbours.shape());
  check<OptionError>(limit >= 0, "hops: a limit of {}, wanted 0 or more", limit);
  check<OptionError>(late >= 0, "hops: late by {}, wanted 0 or more", late);
  const int64_t runs = neighbours.dim(0), nodes = neighbours.dim(1), k = neighbours.dim(2);
  const std::vector<int32_t> lists = neighbours.to_vector<int32_t>();
  for (const int32_t j : lists)
    check<OptionError>(j < nodes, "hops: neighbour {}, wanted below {}", j, nodes);
  std::vector<int32_t> out(static_cast<size_t>(runs * nodes * nodes), -1);
  kernels::parallel_for(runs, kRunsATime, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> reached;  // from i, nearest first
    for (int64_t row = begin * nodes; row < end * nodes; ++row) {
      int32_t* to = out.data() + row * nodes;
      const int32_t* of_run = lists.data() + row / nodes * nodes * k;
      reached.assign(1, row % nodes);
      to[row % nodes] = 0;
      for (size_t at = 0; at < reached.size() && to[reached[at]] < limit; ++at) {
        for (int64_t e = 0; e < k; ++e) {
          const int32_t j = of_run[reached[at] * k + e];
          if (j < 0 || to[j] >= 0) continue;
          to[j] = to[reached[at]] + 1;
          reached.push_back(j);
        }
      }
      for (const int64_t j : reached) to[j] += static_cast<int32_t>(late);
    }
  });
  return Tensor::from(out, {runs, nodes, nodes});
}

}  // namespace stillpoint::stochastic
