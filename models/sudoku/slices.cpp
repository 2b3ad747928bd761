#include "models/sudoku/slices.h"

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <utility>

#include "kernels/common/parallel.h"

namespace stillpoint::sudoku {
namespace {

// Calls functions in the order of their indices, as soon as all before were handed in.
class InOrder {
 public:
  void hand_in(int64_t index, AfterSlice after) {
    const std::lock_guard lock(mutex_);
    waiting_.emplace(index, std::move(after));
    for (auto next = waiting_.find(next_); next != waiting_.end(); next = waiting_.find(++next_)) {
      if (!thrown_) call(next->second);
      waiting_.erase(next);
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
  std::map<int64_t, AfterSlice> waiting_;
  int64_t next_ = 0;
  std::exception_ptr thrown_;
};

}  // namespace

void for_slices(int64_t boards, int64_t slice, Device device,
                const std::function<AfterSlice(int64_t begin, int64_t size)>& learn) {
  const int64_t slices = (boards + slice - 1) / slice;
  InOrder order;
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
  if (device == Device::cpu) {
    kernels::parallel_for(slices, 1, [&](int64_t index, int64_t) { one(index); });
  } else {
    for (int64_t index = 0; index < slices; ++index) one(index);
  }
  order.rethrow();
}

}  // namespace stillpoint::sudoku
