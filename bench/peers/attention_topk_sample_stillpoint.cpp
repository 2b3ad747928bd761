// Our side of bench/compare.py attention_topk_sample: 20 keys by each law, as a user calls for
// them, allocation and tape included.
#include <type_traits>

#include "bench/peers/peer.h"
#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/sampling.h"

namespace stillpoint {
namespace {

constexpr int64_t kTokens = 4096, kWidth = 64, kCount = 20;

template <class Law>
class AttentionTopkSample : public peers::Problem {
 public:
  explicit AttentionTopkSample(const std::string& folder) {
    const auto tensor = [&](const std::string& name, int64_t channels) {
      return peers::tensor(folder + "/" + name + ".bin", {1, kTokens, channels});
    };
    for (const char* name : {"q", "k"}) {
      inputs_.push_back(tensor(name, kWidth));
      leaves_.push_back(inputs_.back().clone());
      leaves_.back().set_requires_grad();
    }
    g_ = kSet ? ops::reshape(tensor("s", 1), {1, kTokens}) : tensor("g", kCount);
    // The verification wants to know what is drawn, which is the same in every call.
    peers::write(folder + "/" + kPrefix + "indices.bin",
                 drawn_from(inputs_).indices.to(DType::f32));
  }
  Tensor forward() const override {
    const NoGrad none;
    return drawn_from(inputs_).log_prob;
  }
  std::vector<Tensor> gradient() const override {
    const Tensor out = drawn_from(leaves_).log_prob;
    return vjp({&out, 1}, leaves_, {&g_, 1});
  }
  std::vector<std::string> outputs() const override {
    return {kPrefix + "out.bin", kPrefix + "dq.bin", kPrefix + "dk.bin"};
  }

 private:
  static constexpr bool kTop = std::is_same_v<Law, TopScores>, kSet = std::is_same_v<Law, KSubset>;
  inline static const std::string kPrefix = kTop                                   ? "top_"
                                            : kSet                                 ? "set_"
                                            : std::is_same_v<Law, WithReplacement> ? "replaced_"
                                                                                   : "draw_";

  static Sample<Law> drawn_from(const std::vector<Tensor>& x) {
    Philox random(1);
    if constexpr (kTop)
      return sample(x[0], x[1], Law{kCount});
    else
      return sample(x[0], x[1], Law{kCount}, random);
  }

  std::vector<Tensor> inputs_, leaves_;
  Tensor g_;
};

}  // namespace
}  // namespace stillpoint

int main() {
  using namespace stillpoint;
  return peers::run<AttentionTopkSample<PlackettLuce>, AttentionTopkSample<TopScores>,
                    AttentionTopkSample<WithReplacement>, AttentionTopkSample<KSubset>>(
      {"plackett_luce", "top", "with_replacement", "k_subset"});
}
