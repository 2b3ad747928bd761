// The product by oneDNN.
#include <dnnl.h>
#include <omp.h>

#include <cstdlib>

#include "kernels/gemm/product.h"

namespace stillpoint::kernels::cpu {
namespace {

// oneDNN starts as many threads as OpenMP allows the caller; how it then cuts the work, and so the
// last bits, would depend on that number.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

}  // namespace

void product(const Product& p) {
  const OneThread one_thread;
  const dnnl_status_t status = dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m,
                                          p.n, p.k, 1.f, p.a, p.lda, p.b, p.ldb, 0.f, p.out, p.ldo);
  if (status != dnnl_success) std::abort();  // out of memory: the sizes are right
}

}  // namespace stillpoint::kernels::cpu
