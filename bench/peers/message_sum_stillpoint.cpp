// Our side of bench/compare.py message_sum: the op as a user calls it, allocation and tape
// included.
#include "bench/peers/peer.h"
#include "engine/ops.h"

namespace stillpoint {
namespace {

constexpr int64_t kBoards = 64, kCells = 81, kDegree = 20, kChannels = 96;

class MessageSum : public peers::Problem {
 public:
  explicit MessageSum(const std::string& folder) {
    const std::vector<int32_t> flat =
        peers::read<int32_t>(folder + "/neighbours.bin", kCells * kDegree);
    std::vector<std::vector<int32_t>> rows;
    for (auto i = flat.begin(); i != flat.end(); i += kDegree) rows.emplace_back(i, i + kDegree);
    graph_ = Graph::from_rows(rows, kCells).to(peers::device());
    const auto tensor = [&](const char* name) {
      return peers::tensor(folder + name, {kBoards, kCells, kChannels});
    };
    a_ = tensor("/a.bin"), c_ = tensor("/c.bin"), g_ = tensor("/g.bin");
    a_leaf_ = a_.clone(), c_leaf_ = c_.clone();
    a_leaf_.set_requires_grad(), c_leaf_.set_requires_grad();
  }
  Tensor forward() const override {
    const NoGrad none;
    return ops::message_sum(a_, c_, graph_);
  }
  std::vector<Tensor> gradient() const override {
    const Tensor out = ops::message_sum(a_leaf_, c_leaf_, graph_);
    const Tensor inputs[] = {a_leaf_, c_leaf_};
    return vjp({&out, 1}, inputs, {&g_, 1});
  }
  std::vector<std::string> outputs() const override { return {"out.bin", "da.bin", "dc.bin"}; }

 private:
  Graph graph_;
  Tensor a_, c_, g_, a_leaf_, c_leaf_;
};

}  // namespace
}  // namespace stillpoint

int main() { return stillpoint::peers::run<stillpoint::MessageSum>({"message_sum"}); }
