// Our side of bench/compare.py topk: the op as a user calls it, allocation and tape included.
#include "bench/peers/peer.h"
#include "engine/ops.h"

namespace stillpoint {
namespace {

constexpr int64_t kRows = 4096, kNumbers = 4096, kCount = 20;

class Topk : public peers::Problem {
 public:
  explicit Topk(const std::string& folder)
      : x_(peers::tensor(folder + "/x.bin", {kRows, kNumbers})),
        leaf_(x_.clone()),
        g_(peers::tensor(folder + "/g.bin", {kRows, kCount})) {
    leaf_.set_requires_grad();
  }
  Tensor forward() const override {
    const NoGrad none;
    return ops::topk(x_, kCount).values;
  }
  std::vector<Tensor> gradient() const override {
    return {vjp(ops::topk(leaf_, kCount).values, leaf_, g_)};
  }
  std::vector<std::string> outputs() const override { return {"out.bin", "dx.bin"}; }

 private:
  Tensor x_, leaf_, g_;
};

}  // namespace
}  // namespace stillpoint

int main() { return stillpoint::peers::run<stillpoint::Topk>({"topk"}); }
