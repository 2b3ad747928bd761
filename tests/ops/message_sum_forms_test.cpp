// Every way in which message_sum is computed, forced by name: the forms of the product agree with
// each other bit for bit, the rungs of the ladder with the reference.
#include "engine/cuda/runtime.h"
#include "kernels/common/parallel.h"
#include "kernels/message_sum/ladder/ladder.h"
#include "kernels/message_sum/message_sum_reference.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

#if defined(STILLPOINT_CUDA_EMULATED)
#include "kernels/emulation/emulation.h"
#endif

namespace stillpoint::test {
namespace {

using kernels::MessageSumForm;

struct Size {
  int64_t batch, channels;
  int64_t offset = 0;  // floats between the start of a block and of each tensor
};
constexpr Size kSizes[] = {{2, 96}, {1, 33}, {3, 4}, {1, 132}, {2, 1}, {0, 8}, {2, 8, 1}};

// One problem with its outputs, in one dtype on one device.
template <class T>
struct Problem {
  Graph graph;
  Tensor a, c, g, ta, tc, out, da, dc, tangent;
  int64_t batch, channels;

  Problem(const Graph& pattern, Size size, Device device)
      : graph(pattern.to(device)), batch(size.batch), channels(size.channels) {
    const Shape rows = {batch, graph.rows(), channels}, cols = {batch, graph.cols(), channels};
    const auto make = [&](const Shape& shape, uint64_t seed) {
      const Tensor block = random_tensor({numel(shape) + size.offset}, seed);
      return block.to(DType::f32).to(dtype_of<T>).to(device).alias(shape, size.offset);
    };
    a = make(rows, 1), g = make(rows, 2), ta = make(rows, 3);
    c = make(cols, 4), tc = make(cols, 5);
    out = make(rows, 6), da = make(rows, 7), dc = make(cols, 8), tangent = make(rows, 9);
  }
  kernels::MessageSumArgs<T> forward(MessageSumForm form = MessageSumForm::automatic) {
    return {a.data<T>(), c.data<T>(), out.mutable_data<T>(), graph.view(), batch, channels, form};
  }
  kernels::MessageSumBackwardArgs<T> backward(MessageSumForm form = MessageSumForm::automatic) {
    return {a.data<T>(),
            c.data<T>(),
            g.data<T>(),
            da.mutable_data<T>(),
            dc.mutable_data<T>(),
            graph.view(),
            graph.transposed_view(),
            batch,
            channels,
            form};
  }
  kernels::MessageSumTangentArgs<T> along(MessageSumForm form = MessageSumForm::automatic) {
    return {a.data<T>(),  c.data<T>(), ta.data<T>(), tc.data<T>(), tangent.mutable_data<T>(),
            graph.view(), batch,       channels,     form};
  }
};

std::vector<NamedGraph> graphs() {
  std::vector<NamedGraph> all = awkward_graphs();
  for (NamedGraph& g : awkward_factor_graphs()) all.push_back(std::move(g));
  all.push_back({"symmetric", sudoku_graph(2)});
  return all;
}

template <class Check>
void for_problems(Check check) {
  for (const auto& [name, graph] : graphs())
    for (const Size size : kSizes) {
      SCOPED_TRACE(name + " batch " + std::to_string(size.batch) + " channels " +
                   std::to_string(size.channels));
      check(graph, size);
    }
}

// `forward` and `backward` run a rung on a problem.
template <class Forward, class Backward>
void expect_rung(const Graph& graph, Size size, Device device, const std::string& rung,
                 Forward forward, Backward backward) {
  Problem<double> wanted(graph, size, Device::cpu);
  kernels::reference::message_sum(wanted.forward());
  kernels::reference::message_sum_backward(wanted.backward());
  Problem<float> got(graph, size, device);
  forward(got);
  backward(got);
  expect_close(got.out, wanted.out, 8, 64, rung + " out");
  expect_close(got.da, wanted.da, 8, 64, rung + " da");
  expect_close(got.dc, wanted.dc, 8, 64, rung + " dc");
}

TEST(MessageSumLadder, Cpu) {
  for_problems([](const Graph& graph, Size size) {
    for (const kernels::MessageSumRung& rung : kernels::kMessageSumCpuLadder)
      expect_rung(
          graph, size, Device::cpu, rung.name, [&](auto& p) { rung.forward(p.forward()); },
          [&](auto& p) { rung.backward(p.backward()); });
  });
}

// With fewer samples than threads, the backward takes rows of all samples instead of samples.
TEST(MessageSumForms, CpuSamplesAndRowsAgree) {
  for_problems([](const Graph& graph, Size size) {
    Problem<float> samples(graph, size, Device::cpu), rows(graph, size, Device::cpu);
    kernels::set_num_threads(1);
    kernels::cpu::message_sum_backward(samples.backward());
    kernels::set_num_threads(static_cast<int>(size.batch) + 1);
    kernels::cpu::message_sum_backward(rows.backward());
    kernels::set_num_threads(0);
    expect_same_bits(samples.da, rows.da, "da");
    expect_same_bits(samples.dc, rows.dc, "dc");
  });
}

// One walk for both gradients where the pattern is symmetric: the same bits as two passes, which a
// column more, that nobody listens to, brings about.
TEST(MessageSumForms, CpuSymmetricAndTwoPassesAgree) {
  const Graph symmetric = sudoku_graph(3);
  const Graph wider =
      Graph::from_csr(symmetric.offsets(), symmetric.indices(), symmetric.cols() + 1);
  constexpr Size kSize{1, 40};
  Problem<float> one(symmetric, kSize, Device::cpu), two(wider, kSize, Device::cpu);
  two.a.assign(one.a), two.g.assign(one.g);
  two.c.alias(one.c.shape(), 0).assign(one.c);
  kernels::cpu::message_sum_backward(one.backward());
  kernels::cpu::message_sum_backward(two.backward());
  expect_same_bits(one.da, two.da, "da");
  expect_same_bits(one.dc, two.dc.alias(one.dc.shape(), 0), "dc");
}

#if defined(STILLPOINT_HAVE_CUDA)

void expect_ok(const kernels::Status& status) { cuda::check_status(status, "message_sum"); }

TEST(MessageSumLadder, Cuda) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  for_problems([](const Graph& graph, Size size) {
    for (const kernels::MessageSumCudaRung& rung : kernels::kMessageSumCudaLadder)
      expect_rung(
          graph, size, Device::cuda, rung.name,
          [&](auto& p) { expect_ok(rung.forward(p.forward(), cuda::stream())); },
          [&](auto& p) { expect_ok(rung.backward(p.backward(), cuda::stream())); });
  });
}

TEST(MessageSumForms, CudaFormsAgree) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  for_problems([](const Graph& graph, Size size) {
    Problem<float> row(graph, size, Device::cuda), slab(graph, size, Device::cuda);
    const auto run = [](Problem<float>& p, MessageSumForm form) {
      expect_ok(kernels::cuda::message_sum(p.forward(form), cuda::stream()));
      expect_ok(kernels::cuda::message_sum_backward(p.backward(form), cuda::stream()));
      expect_ok(kernels::cuda::message_sum_tangent(p.along(form), cuda::stream()));
    };
    run(row, MessageSumForm::row);
    run(slab, MessageSumForm::slab);
    expect_same_bits(slab.out, row.out, "out");
    expect_same_bits(slab.da, row.da, "da");
    expect_same_bits(slab.dc, row.dc, "dc");
    expect_same_bits(slab.tangent, row.tangent, "tangent");
  });
}

#if defined(STILLPOINT_CUDA_EMULATED)

// The rule of message_sum.h: slabs where there are 128 or more, rows below; seen by the number of
// blocks.
TEST(MessageSumForms, CudaChoosesByNumberOfSlabs) {
  const auto blocks = [](int64_t batch) {
    Problem<float> p(sudoku_graph(2), {batch, 36}, Device::cuda);
    cuda::synchronize();
    const int64_t before = emulation::counters().blocks;
    expect_ok(kernels::cuda::message_sum(p.forward(), cuda::stream()));
    cuda::synchronize();
    return emulation::counters().blocks - before;
  };
  EXPECT_EQ(blocks(64), 64 * 2);                   // one block a slab of 32 channels
  EXPECT_EQ(blocks(63), (63 * 2 * 16 * 8) / 256);  // eight threads a row and slab
}

#endif
#endif

}  // namespace
}  // namespace stillpoint::test
