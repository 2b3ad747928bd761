#include <cstdio>

#include "engine/ops.h"

int main() {
  using namespace stillpoint;
  Tensor x = Tensor::from<float>({1, 2, 3}, {3}).set_requires_grad();
  backward(ops::sum(ops::square(x)));
  for (const float g : x.grad().to_vector<float>()) std::printf("%g ", g);
}
