// Sums of rows by class: what the threads of class_sums.cu do, written so that a CPU can do it too.
//
// Every number that is added is a multiple of one power of two, so small that no partial sum needs more than float64's
// 53 bits: all additions are exact, and neither the order of blocks nor that of atomic additions changes a bit of the
// result. The length of a row is added up in a fixed order. Both are described in kernels/reproducible_sums.py.
//
// N rows, C classes, D columns.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define LTRSYS_HOST_DEVICE __host__ __device__ __forceinline__
#else
#include <cmath>
#define LTRSYS_HOST_DEVICE inline
#endif

namespace ltrsys {

constexpr int kLanes = 256;            // running sums of a row's squares
constexpr int kWarp = 32;              // threads that share a row; each has kLanes / kWarp of its sums
constexpr int kSumsPerThread = kLanes / kWarp;
constexpr int kThreads = 128;          // columns of a block that adds rows
constexpr int kRowsPerBlock = 64;      // rows that such a block adds
constexpr int kRowsAhead = 8;          // rows whose values are on their way at one time
constexpr double kTiny = 2.2250738585072014e-308;  // the smallest normal float64

// The square, rounded by itself: a fused multiply-add would round differently from torch.
LTRSYS_HOST_DEVICE double square(double value) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(value, value);
#else
  return value * value;
#endif
}

// A feature in float64, moved by the center if there is one.
template <typename Feature>
LTRSYS_HOST_DEVICE double moved(const Feature* features, const double* center, int64_t columns, int64_t row, int64_t column) {
  const double value = static_cast<double>(features[row * columns + column]);
  return center == nullptr ? value : value - center[column];
}

// One thread's running sums of the squares of a row: sum k takes the columns that are lane + 32 k modulo 256.
template <typename Feature>
LTRSYS_HOST_DEVICE void add_squares(const Feature* features, const double* center, int64_t columns, int64_t row, int lane,
                                    double (&sums)[kSumsPerThread]) {
  for (int64_t first = 0; first < columns; first += kLanes) {
#pragma unroll
    for (int k = 0; k < kSumsPerThread; ++k) {
      const int64_t column = first + lane + kWarp * k;
      if (column < columns) sums[k] += square(moved(features, center, columns, row, column));
    }
  }
}

// The first halvings, of sums that one thread has.
LTRSYS_HOST_DEVICE double add_own_halves(double (&sums)[kSumsPerThread]) {
#pragma unroll
  for (int half = kSumsPerThread / 2; half > 0; half /= 2) {
#pragma unroll
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  }
  return sums[0];
}

// Round to a multiple of a power of two q: `shifter` is 1.5 * 2^52 q.
LTRSYS_HOST_DEVICE double rounded(double value, double shifter) {
#ifdef __CUDA_ARCH__
  return __dsub_rn(__dadd_rn(value, shifter), shifter);
#else
  return (value + shifter) - shifter;
#endif
}

// Which rows, in the order of their classes, and which column a thread adds.
struct Stretch {
  int64_t first_row;
  int64_t past_row;
  int64_t column;
};

LTRSYS_HOST_DEVICE Stretch stretch_of(int64_t row_block, int64_t column_block, int thread, int64_t rows) {
  const int64_t first = row_block * kRowsPerBlock;
  const int64_t past = first + kRowsPerBlock;
  return {first, past < rows ? past : rows, column_block * kThreads + thread};
}

// Add a thread's column over its rows. `order[i]` is the row that comes i-th by class, `labels[i]` its class; `add`
// adds to a sum in memory, once for each class of the stretch.
template <typename Feature, typename Add>
LTRSYS_HOST_DEVICE void add_stretch(const Stretch& stretch, const Feature* features, const double* center,
                                    const double* lengths, const int64_t* order, const int64_t* labels, int64_t columns,
                                    double shifter, double* sums, Add add) {
  if (stretch.column >= columns || stretch.first_row >= stretch.past_row) return;
  int64_t label = labels[stretch.first_row];
  double sum = 0.0;
  for (int64_t first = stretch.first_row; first < stretch.past_row; first += kRowsAhead) {
    double values[kRowsAhead];
#pragma unroll
    for (int ahead = 0; ahead < kRowsAhead; ++ahead) {
      values[ahead] = 0.0;
      if (first + ahead < stretch.past_row) {
        const int64_t row = order[first + ahead];
        double value = moved(features, center, columns, row, stretch.column);
        if (lengths != nullptr) value /= lengths[row] < kTiny ? kTiny : lengths[row];
        values[ahead] = rounded(value, shifter);
      }
    }
#pragma unroll
    for (int ahead = 0; ahead < kRowsAhead; ++ahead) {
      if (first + ahead < stretch.past_row) {
        const int64_t next = labels[first + ahead];
        if (next != label) {
          add(sums + label * columns + stretch.column, sum);
          sum = 0.0;
          label = next;
        }
        sum += values[ahead];
      }
    }
  }
  add(sums + label * columns + stretch.column, sum);
}

}  // namespace ltrsys
