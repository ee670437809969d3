// The device functions of kernels/gpu/class_sums.h in a grid that is played on a CPU, for test_class_sums.py.

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <thread>
#include <vector>

#include "class_sums.h"

namespace {

// A row's length as a warp finds it: each lane adds, then the lanes add their halves.
template <typename Feature>
double row_length(const Feature* features, const double* center, int64_t columns, int64_t row) {
  double lanes[ltrsys::kWarp];
  for (int lane = 0; lane < ltrsys::kWarp; ++lane) {
    double sums[ltrsys::kSumsPerThread] = {};
    ltrsys::add_squares(features, center, columns, row, lane, sums);
    lanes[lane] = ltrsys::add_own_halves(sums);
  }
  for (int half = ltrsys::kWarp / 2; half > 0; half /= 2) {
    double other[ltrsys::kWarp];
    for (int lane = 0; lane < ltrsys::kWarp; ++lane) other[lane] = lanes[lane ^ half];
    for (int lane = 0; lane < ltrsys::kWarp; ++lane) lanes[lane] += other[lane];
  }
  return std::sqrt(lanes[0]);
}

void add_atomically(double* sum, double value) {
  double seen, wanted;
  __atomic_load(sum, &seen, __ATOMIC_RELAXED);
  do {
    wanted = seen + value;
  } while (!__atomic_compare_exchange(sum, &seen, &wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

// Run all blocks in the given order, dealt to host threads that run at the same time.
template <typename Feature>
void run(const Feature* features, const double* center, bool normalize, const int64_t* order, const int64_t* labels,
         int64_t rows, int64_t columns, double shifter, const int64_t* blocks, int64_t row_blocks, int64_t num_blocks,
         int64_t host_threads, double* sums) {
  std::vector<double> lengths(normalize ? rows : 0);
  for (int64_t row = 0; row < static_cast<int64_t>(lengths.size()); ++row) {
    lengths[row] = row_length(features, center, columns, row);
  }
  std::vector<std::thread> threads;
  for (int64_t host_thread = 0; host_thread < host_threads; ++host_thread) {
    threads.emplace_back([&, host_thread] {
      for (int64_t place = host_thread; place < num_blocks; place += host_threads) {
        const int64_t block = blocks[place];
        for (int thread = 0; thread < ltrsys::kThreads; ++thread) {
          const auto stretch = ltrsys::stretch_of(block % row_blocks, block / row_blocks, thread, rows);
          ltrsys::add_stretch(stretch, features, center, normalize ? lengths.data() : nullptr, order, labels, columns,
                              shifter, sums, add_atomically);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace

extern "C" {

int64_t rows_per_block() { return ltrsys::kRowsPerBlock; }
int64_t columns_per_block() { return ltrsys::kThreads; }

#define LTRSYS_RUN(name, Feature)                                                                                   \
  void name(const void* features, const double* center, bool normalize, const int64_t* order, const int64_t* labels, \
            int64_t rows, int64_t columns, double shifter, const int64_t* blocks, int64_t row_blocks,                \
            int64_t num_blocks, int64_t host_threads, double* sums) {                                               \
    run(static_cast<const Feature*>(features), center, normalize, order, labels, rows, columns, shifter, blocks,     \
        row_blocks, num_blocks, host_threads, sums);                                                                \
  }
LTRSYS_RUN(run_float32, float)
LTRSYS_RUN(run_float64, double)
LTRSYS_RUN(run_bfloat16, c10::BFloat16)
LTRSYS_RUN(run_float16, c10::Half)
}
