// embedding by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/embedding/embedding.h"

namespace stillpoint::kernels::reference {

template <class T>
void embedding(const EmbeddingArgs<T>& args) {
  for (int64_t i = 0; i < args.count; ++i)
    for (int64_t k = 0; k < args.channels; ++k) {
      const int64_t v = args.index[i];
      args.out[i * args.channels + k] = v >= 0 && v < args.entries
                                            ? args.table[v * args.channels + k]
                                            : std::numeric_limits<T>::quiet_NaN();
    }
}

template <class T>
void embedding_backward(const EmbeddingBackwardArgs<T>& args) {
  for (int64_t k = 0; k < args.entries * args.channels; ++k) args.dtable[k] = 0;
  for (int64_t i = 0; i < args.count; ++i) {
    const int64_t v = args.index[i];
    if (v < 0 || v >= args.entries) continue;
    for (int64_t k = 0; k < args.channels; ++k)
      args.dtable[v * args.channels + k] += args.g[i * args.channels + k];
  }
}

}  // namespace stillpoint::kernels::reference
