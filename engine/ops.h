// The ops: everything a network is made of. Each checks its inputs, runs one kernel (or composes
// other ops) on the device of its inputs and records its gradient.
//
// Shapes stand in brackets; [..., C] is any number of leading dimensions. Wrong shapes throw
// ShapeError; wrong dtypes and mixed devices TypeError; both say what was given and what was
// wanted. Unless said otherwise an op is twice differentiable.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/autograd.h"
#include "engine/graph.h"
#include "engine/random.h"
#include "engine/tensor.h"
#include "kernels/common/precision.h"

namespace stillpoint::ops {

// Of the products in ops that let choose. bf16: operands are rounded to bfloat16, to nearest, ties
// to even, and summed in float32; all else is float32. With AMX-BF16 that is faster than float32,
// without it is emulated, to the same bits but for numbers below 1.2e-38 (kernels/gemm/bf16.h).
using kernels::Precision;

// ---- views and copies --------------------------------------------------------------------------

// The same elements under another shape with as many elements; one dimension may be -1 (inferred).
// Copies nothing.
Tensor reshape(const Tensor& x, Shape shape);
// Rows [begin, begin + length) of the first dimension; x itself if those are all. Copies nothing.
Tensor rows(const Tensor& x, int64_t begin, int64_t length);
// Moves to a device; the gradient moves back.
Tensor to(const Tensor& x, Device device);

// ---- concat ------------------------------------------------------------------------------------

// [..., C1], [..., C2], ... -> [..., C1 + C2 + ...].
Tensor concat(const std::vector<Tensor>& parts);
// Columns [begin, begin + length) of the last dimension: [..., C] -> [..., length].
Tensor columns(const Tensor& x, int64_t begin, int64_t length);

// ---- elementwise -------------------------------------------------------------------------------
// Two-operand ops take equal shapes, or broadcast: the smaller operand's shape, after leading 1s
// are dropped, is a suffix of the larger's (a bias [C] on [B, N, C], a scalar []), or equals it
// with the last dimension 1 (a weight per row, [B, N, 1] on [B, N, C]).

Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
// scale * x + shift.
Tensor affine(const Tensor& x, double scale, double shift = 0.0);
Tensor neg(const Tensor& x);
Tensor relu(const Tensor& x);  // relu'(0) = 0; NaN stays NaN
Tensor sigmoid(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor silu(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);
Tensor square(const Tensor& x);

// ---- reductions --------------------------------------------------------------------------------

Tensor sum(const Tensor& x);   // [...] -> []
Tensor mean(const Tensor& x);  // [...] -> []
// Over one dimension, which stays with size 1 if `keep`. Negative dimensions count from the end.
enum class KeepDim : uint8_t { no, yes };
Tensor sum(const Tensor& x, int dim, KeepDim keep = KeepDim::no);
Tensor mean(const Tensor& x, int dim, KeepDim keep = KeepDim::no);
// Once differentiable: the gradient goes to the first of equal maxima; NaN wins.
Tensor max(const Tensor& x, int dim, KeepDim keep = KeepDim::no);
// The transposes of broadcasting: adds up to `shape`, or repeats up to it, by the rule of the
// elementwise ops.
Tensor sum_to(const Tensor& x, const Shape& shape);
Tensor broadcast_to(const Tensor& x, const Shape& shape);

// ---- gemm --------------------------------------------------------------------------------------

enum class Transpose : uint8_t { no, yes };
// [M, K] x [K, N] -> [M, N], either operand given transposed.
Tensor matmul(const Tensor& a, const Tensor& b, Transpose transpose_a = Transpose::no,
              Transpose transpose_b = Transpose::no);
enum class Activation : uint8_t { none, relu, sigmoid, tanh };
// activation(x W^T + bias): x [..., in], weight [out, in], bias [out] or undefined -> [..., out].
// Bias and activation are applied by the product's epilogue.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              Activation activation = Activation::none);

// ---- cross_entropy -----------------------------------------------------------------------------

// Mean over the rows of -log softmax(logits)[target]: logits [..., C], targets [...] int32 in [0,
// C) -> []. A negative target leaves its row out; with no row left the loss is 0. A target of C or
// more throws OptionError on the CPU; on CUDA it makes the loss and the gradient of its row NaN.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets);
// softmax over the last dimension.
Tensor softmax(const Tensor& x);

// ---- rms_norm ----------------------------------------------------------------------------------

// y = weight * (x + residual) / sqrt(mean((x + residual)^2) + epsilon) over the last dimension: x
// and residual [..., C], weight [C]; residual and weight may be undefined. Zhang, Sennrich: "Root
// mean square layer normalization", 2019.
struct RmsNormOptions {
  double epsilon = 1e-5;
};
Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& residual = {},
                RmsNormOptions options = {});

// ---- layer_norm --------------------------------------------------------------------------------

// y = weight * (x - mean(x)) / sqrt(variance(x) + epsilon) + bias over the last dimension: x [...,
// C], weight and bias [C], either of which may be undefined. Ba, Kiros, Hinton 2016.
struct LayerNormOptions {
  double epsilon = 1e-5;
};
Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                  LayerNormOptions options = {});

// ---- attention ---------------------------------------------------------------------------------

// softmax(q k^T / sqrt(width)) v in every head: q [B, N, heads width], k and v [B, M, heads width]
// -> [B, N, heads width]; heads lie side by side in a token's row, up to 128 channels each. Memory
// is linear in N and M. A query that sees no key gives 0. Once differentiable.
enum class AttentionMask : uint8_t { none, causal };  // causal: token i sees tokens 0 to i; N = M
struct AttentionOptions {
  int64_t heads = 1;
  AttentionMask mask = AttentionMask::none;
  Tensor key_mask = {};  // [B, M] int32: nobody sees the keys with 0; undefined: all are seen
};
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const AttentionOptions& options = {});

// ---- graph_attention ---------------------------------------------------------------------------

// attention in which token i sees its neighbours in the graph alone: q [B, rows, heads width], k
// and v [B, cols, heads width] -> [B, rows, heads width], heads up to 128 channels wide. On the
// complete graph with self-loops it is attention. A token without neighbours gives 0. Once
// differentiable.
Tensor graph_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Graph& graph,
                       int64_t heads = 1);

// ---- embedding ---------------------------------------------------------------------------------

// table [V, C], indices [...] int32 in [0, V) -> [..., C]. An index outside throws OptionError on
// the CPU; on CUDA its row is NaN. Linear in the table: twice differentiable.
Tensor embedding(const Tensor& table, const Tensor& indices);

// ---- topk --------------------------------------------------------------------------------------

// The k largest numbers of each row, largest first, of equals the first: x [..., n] -> [..., k]
// twice. A NaN is greater than everything. OptionError unless 1 <= k <= n.
struct Topk {
  Tensor values;   // differentiable
  Tensor indices;  // int32, in [0, n)
};
Topk topk(const Tensor& x, int64_t k);

// ---- gru_cell ----------------------------------------------------------------------------------

// The gates of a gated recurrent unit, fused: x_gates and h_gates [..., 3H] hold reset, update and
// candidate pre-activations (what W x + b and U h + b give), h [..., H] is the state before:
//   r = sigmoid(xr + hr), z = sigmoid(xz + hz), n = tanh(xn + r hn), h' = (1 - z) n + z h -> [...,
//   H].
// Cho et al. 2014, in the variant of cuDNN (reset after the product).
Tensor gru_cell(const Tensor& x_gates, const Tensor& h_gates, const Tensor& h);

// ---- message_sum -------------------------------------------------------------------------------

// out[b, i] = sum over neighbours j of i of relu(a[b, i] + c[b, j]): the whole message layer of a
// graph network whose first layer is split, W [h_i; h_j] = W1 h_i + W2 h_j, with no tensor of
// edges. a [B, rows, C], c [B, cols, C] -> [B, rows, C]; a row without neighbours gives 0.
Tensor message_sum(const Tensor& a, const Tensor& c, const Graph& graph);

// ---- refine ------------------------------------------------------------------------------------

// Steps of a recurrent graph network, as one op. One step, for states h [B, N, H] and input gates x
// [B, N, 3H], which are the same in every step:
//   s  = message_sum(linear(h, receiver, receiver_bias), linear(h, sender), graph)
//   h' = gru_cell(x + linear(s, message), linear(h, state, state_bias), h)
// -> [steps, B, N, H], or [B, N, H] of the last state alone. Once differentiable in its fused form.
struct RefineWeights {
  Tensor receiver, receiver_bias;  // [H, H], [H]
  Tensor sender;                   // [H, H]
  Tensor message;                  // [3H, H]
  Tensor state, state_bias;        // [3H, H], [3H]
};
// Which states come back: every one, [steps, boards, ...], or only the last, in constant memory if
// no gradient is wanted.
enum class States : uint8_t { all, last };
// fused: one kernel, sample by sample. composed: the ops above, step by step; twice differentiable.
// automatic: fused, but on CUDA composed where a sample does not fit into a block's shared memory:
// 4 N H floats and 26 KiB, which on an H100 is H = 159 for 81 nodes. Forcing fused there throws
// OptionError.
enum class RefineForm : uint8_t { automatic, fused, composed };
struct RefineOptions {
  int64_t steps = 1;
  States keep = States::all;
  RefineForm form = RefineForm::automatic;
};
Tensor refine(const Tensor& h, const Tensor& x, const Graph& graph, const RefineWeights& weights,
              RefineOptions options);

// ---- spmm --------------------------------------------------------------------------------------

// out[b, i] = sum over entries e of row i of values[e] x[b, column(e)]: values [entries] or
// undefined (all 1), x [B, cols, C] -> [B, rows, C]. Differentiable in values and x.
enum class SpmmBackend : uint8_t { own, library };  // library: cuSPARSE, on Device::cuda only
Tensor spmm(const Tensor& values, const Tensor& x, const Graph& graph,
            SpmmBackend backend = SpmmBackend::own);

// ---- factor_sum --------------------------------------------------------------------------------

// Sums over the members of each factor: factors.rows() are the factors, factors.cols() the
// variables; x [B, variables, C] -> [B, factors, C].
Tensor factor_sum(const Tensor& x, const Graph& factors);
// The way back: every variable gets the sum of the factors it belongs to: x [B, factors, C] -> [B,
// variables, C].
Tensor factor_broadcast(const Tensor& x, const Graph& factors);

// ---- refine_factor -----------------------------------------------------------------------------

// Several refinements of a network of variables and factors in one kernel, board by board. Factors
// of one type lie together: type t has the factors [types[t], types[t + 1]). One refinement:
//   m = relu(message h + message_bias)
//   p = relu(factor[t] sum of m over the members + factor_bias[t])            per factor
//   u = relu(own [h, m] + clue[kind] + sum over its factors of collect[t] p)
//   h' = y / sqrt(mean(y^2) + epsilon) with y = h + update u + update_bias
// models/sudoku/symbol_net.cpp has the same from single ops.
struct FactorWeights {
  Tensor message, message_bias;  // [C, C], [C]
  Tensor factor, factor_bias;    // [types C, C], [types C]
  Tensor collect;                // [hidden, types C]
  Tensor own;                    // [hidden, 2 C]
  Tensor clue;                   // [kinds, hidden]
  Tensor update, update_bias;    // [C, hidden], [C]
};
struct FactorRefinement {
  int64_t steps = 1;
  std::vector<int32_t> types;  // where each type begins, and the number of factors
  States keep = States::all;
  double epsilon = 1e-5;
  // bf16: on the CPU; OptionError on CUDA. In float64 operands are rounded just as well.
  Precision precision = Precision::f32;
};
// h [boards, variables, C], clues [boards, variables] int32: kinds in [0, kinds), which throw
// OptionError outside on the CPU and give NaN on CUDA. Once differentiable, in h and all weights.
Tensor refine_factor(const Tensor& h, const Tensor& clues, const FactorWeights& weights,
                     const Graph& factors, const FactorRefinement& options);

// ---- transpose_csr -----------------------------------------------------------------------------

// A CSR pattern (offsets [rows + 1], indices [entries], int32, not checked) compressed by column
// instead: what Graph::from_csr keeps. Entries of a column stay in the order of their rows.
// Integers only, so there is no gradient.
struct CsrTranspose {
  Tensor offsets, indices;  // [cols + 1], [entries]
  Tensor order;             // [entries]: which entry of the pattern each of the transpose is
  Tensor inverse;           // [entries]: where each entry of the pattern went
  Tensor degrees;           // [2]: entries of every row, of every column; 0 if not all the same
};
CsrTranspose transpose_csr(const Tensor& offsets, const Tensor& indices, int64_t cols);

// ---- neighbours_csr ----------------------------------------------------------------------------

// Lists of neighbours [B, N, count] (int32 in [0, keys), not checked; negative ones are none) as
// the CSR pattern of one graph with B blocks on its diagonal, of N rows and `keys` columns each:
// what Graph::from_neighbours builds. Integers only, so there is no gradient.
struct NeighboursCsr {
  Tensor offsets;  // [B N + 1]
  Tensor indices;  // [B N count], of which the last offset says how many are written
};
NeighboursCsr neighbours_csr(const Tensor& neighbours, int64_t keys);

// ---- random_fill -------------------------------------------------------------------------------

// Fresh tensors of random numbers; the same (seed, stream, position) gives the same numbers on
// every device (normal: to the last bits of log and cos). Advances `random`.
Tensor uniform(Shape shape, Philox& random, double low = 0.0, double high = 1.0,
               TensorOptions options = {});
Tensor normal(Shape shape, Philox& random, double mean = 0.0, double deviation = 1.0,
              TensorOptions options = {});

}  // namespace stillpoint::ops
