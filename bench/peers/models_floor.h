// The task of bench/compare.py with models, and the time below which no program can do it here.
#pragma once

#include <cstdint>

#include "models/sudoku/carry.h"
#include "models/sudoku/evaluate.h"

namespace stillpoint::bench {

struct Task {
  sudoku::Model model;
  bool train;        // or infer
  int64_t channels;  // of a node
  int64_t boards;
  int64_t steps;
  Device device;

  // Boards that our side refines together: the defaults of training and of evaluation.
  int64_t slice() const {
    return train ? sudoku::default_slice(model, sudoku::Regime::unroll, device)
                 : sudoku::default_batch(device);
  }
};

// products + streams, in seconds of num_threads() threads. products: the flops of the dense
// products (nothing computed twice, factors once each) at the faster of two measured rates,
// multiply-adds in registers and oneDNN at the shapes in question. streams: the bytes that the
// contracts of refine and refine_factor and the readout move (kernels/refine/refine.h), at the
// measured rate of writing and reading back as much memory as a slice of boards takes. Messages,
// gates, norms and the loss are left out, so that nobody can reach it.
struct Floor {
  double flops = 0, multiply_add_rate = 0, library_rate = 0;
  double bytes = 0, stream_rate = 0;

  double products() const;
  double streams() const { return bytes / stream_rate; }
  double seconds() const { return products() + streams(); }
};
Floor measure_floor(const Task& task);

}  // namespace stillpoint::bench
