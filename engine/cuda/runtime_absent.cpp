// The CUDA runtime of a build without CUDA.
#include "engine/cuda/runtime.h"
#include "engine/cuda/while_graph.h"
#include "engine/error.h"

namespace stillpoint::cuda {
namespace {

[[noreturn]] void absent() {
  throw DeviceError("cuda: this build has no CUDA backend (configure with STILLPOINT_CUDA=ON)");
}

}  // namespace

bool device_available() { return false; }
std::string device_name() { return "none"; }
kernels::Stream stream() { absent(); }
cublasContext* cublas_handle() { absent(); }
cusparseContext* cusparse_handle() { absent(); }
void synchronize() { absent(); }
bool capturing() { return false; }
void* allocate(int64_t) { absent(); }
void free(void*) { absent(); }
void take_block(void*, int64_t, int64_t) { absent(); }
void return_block(void*, int64_t) noexcept {}
void copy_to_device(void*, const void*, int64_t) { absent(); }
void copy_to_host(void*, const void*, int64_t) { absent(); }
void copy_on_device(void*, const void*, int64_t) { absent(); }
void fill_words(void*, uint32_t, int64_t) { absent(); }
void check_status(const kernels::Status&, const char*) { absent(); }
WhileGraph::WhileGraph(const std::function<void(uint64_t)>&) { absent(); }
WhileGraph::~WhileGraph() = default;
void WhileGraph::launch() { absent(); }

}  // namespace stillpoint::cuda
