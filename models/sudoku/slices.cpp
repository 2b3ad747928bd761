#include "models/sudoku/slices.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/common/parallel.h"

namespace stillpoint::sudoku {
namespace {

// Calls functions in the order of their indices, as soon as all before were handed in.
class InOrder {
 public:
  explicit InOrder(int64_t count) : waiting_(static_cast<size_t>(count)) {}

  void hand_in(int64_t index, AfterSlice after) {
    const std::lock_guard lock(mutex_);
    waiting_[static_cast<size_t>(index)] = std::move(after);
    for (; next_ < waiting_.size() && waiting_[next_]; ++next_) {
      if (!thrown_) call(waiting_[next_]);
      waiting_[next_] = nullptr;
    }
  }
  bool failed() {
    const std::lock_guard lock(mutex_);
    return thrown_ != nullptr;
  }
  void rethrow() const {
    if (thrown_) std::rethrow_exception(thrown_);
  }

 private:
  void call(const AfterSlice& after) noexcept {
    try {
      after();
    } catch (...) {
      thrown_ = std::current_exception();
    }
  }

  std::mutex mutex_;
  std::vector<AfterSlice> waiting_;
  size_t next_ = 0;
  std::exception_ptr thrown_;
};

}  // namespace

void for_slices(int64_t boards, int64_t slice, Device device,
                const std::function<AfterSlice(int64_t begin, int64_t size)>& learn) {
  const int64_t slices = (boards + slice - 1) / slice;
  InOrder order(slices);
  // An exception may not leave a thread: it takes its turn.
  const auto one = [&](int64_t index) {
    if (order.failed()) return;
    const int64_t begin = index * slice;
    AfterSlice after;
    try {
      after = learn(begin, std::min(slice, boards - begin));
    } catch (...) {
      after = [thrown = std::current_exception()] { std::rethrow_exception(thrown); };
    }
    order.hand_in(index, std::move(after));
  };
  if (device == Device::cpu && slices >= std::min<int64_t>(kernels::num_threads(), slice)) {
    kernels::parallel_for(slices, 1, [&](int64_t index, int64_t) { one(index); });
  } else {
    for (int64_t index = 0; index < slices; ++index) one(index);
  }
  order.rethrow();
}

}  // namespace stillpoint::sudoku
