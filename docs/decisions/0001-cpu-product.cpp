// Rates of single-threaded float32 products at this project's sizes, one library per build:
//   g++ -O2 -std=c++20 -DDNNL 0001-cpu-product.cpp -ldnnl
//   g++ -O2 -std=c++20 0001-cpu-product.cpp -l:libopenblas.so.0
//   g++ -O2 -std=c++20 0001-cpu-product.cpp -l:libblis.so.4
// Prints one line per product: which, M, N, K, GFLOP/s (of the fastest quarter of the repeats, in
// the thread's own processor time).
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <vector>
#ifdef DNNL
#include <dnnl.h>
#else
extern "C" void cblas_sgemm(int, int, int, int, int, int, float, const float*, int, const float*,
                            int, float, float*, int);
#endif

// Row-major C[m, n] = op(A) op(B).
void product(bool ta, bool tb, int m, int n, int k, const float* a, const float* b, float* c) {
  const int lda = ta ? m : k, ldb = tb ? k : n;
#ifdef DNNL
  dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1.f, a, lda, b, ldb, 0.f, c, n);
#else
  cblas_sgemm(101, ta ? 112 : 111, tb ? 112 : 111, m, n, k, 1.f, a, lda, b, ldb, 0.f, c, n);
#endif
}

double seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void measure(const char* name, bool ta, bool tb, int m, int n, int k) {
  const auto numbers = [](int count) {
    std::vector<float> v(static_cast<size_t>(count));
    for (size_t i = 0; i < v.size(); ++i) v[i] = 0.1f * static_cast<float>(i % 7) - 0.3f;
    return v;
  };
  const std::vector<float> a = numbers(m * k), b = numbers(k * n);
  std::vector<float> c(static_cast<size_t>(m) * static_cast<size_t>(n));
  const double flops = 2.0 * m * n * k;
  const int calls = std::max(1, static_cast<int>(4e7 / flops));
  std::vector<double> times;
  for (int repeat = 0; repeat < 21; ++repeat) {
    const double start = seconds();
    for (int call = 0; call < calls; ++call) product(ta, tb, m, n, k, a.data(), b.data(), c.data());
    times.push_back((seconds() - start) / calls);
  }
  std::sort(times.begin(), times.end());
  std::printf("%s %d %d %d %.1f\n", name, m, n, k, flops / times[times.size() / 4] * 1e-9);
}

int main() {
  const int widths[] = {32, 64, 96, 192, 288};
  for (const int in : widths)
    for (const int out : widths) {
      for (const int rows : {81, 256, 5184}) {
        measure("forward", false, true, rows, out, in);
        measure("data_gradient", false, false, rows, in, out);
      }
      for (const int rows : {1024, 5184}) measure("weight_gradient", true, false, out, in, rows);
    }
}
