// Our side of bench/compare.py attention: the op as a user calls it, allocation and tape included.
#include "bench/peers/peer.h"
#include "engine/ops.h"

namespace stillpoint {
namespace {

constexpr int64_t kTokens = 1024, kHeads = 8, kWidth = 64;

class Attention : public peers::Problem {
 public:
  explicit Attention(const std::string& folder) {
    const auto tensor = [&](const std::string& name) {
      return peers::tensor(folder + "/" + name + ".bin", {1, kTokens, kHeads * kWidth});
    };
    for (const char* name : {"q", "k", "v"}) {
      inputs_.push_back(tensor(name));
      leaves_.push_back(inputs_.back().clone());
      leaves_.back().set_requires_grad();
    }
    g_ = tensor("g");
  }
  Tensor forward() const override {
    const NoGrad none;
    return ops::attention(inputs_[0], inputs_[1], inputs_[2], {.heads = kHeads});
  }
  std::vector<Tensor> gradient() const override {
    const Tensor out = ops::attention(leaves_[0], leaves_[1], leaves_[2], {.heads = kHeads});
    return vjp({&out, 1}, leaves_, {&g_, 1});
  }
  std::vector<std::string> outputs() const override {
    return {"out.bin", "dq.bin", "dk.bin", "dv.bin"};
  }

 private:
  std::vector<Tensor> inputs_, leaves_;
  Tensor g_;
};

}  // namespace
}  // namespace stillpoint

int main() { return stillpoint::peers::run<stillpoint::Attention>({"attention"}); }
