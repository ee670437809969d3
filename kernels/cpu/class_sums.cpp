// Sums of rows by class on a CPU: one pass over the rows, a class at a time, with the bits of every other way.
//
// Every number that is added is a multiple of one power of two, so small that no partial sum needs more than float64's
// 53 bits (kernels/exact_sums.py): threads may share the work out as they like. The length of a row is added up in the
// order of kernels/row_lengths.py.
//
// N rows, C classes, D columns.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define LTRSYS_FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LTRSYS_FOR_EACH_PROCESSOR
#endif

namespace {

constexpr int64_t kLanes = 256;                    // running sums of a row's squares
constexpr double kTiny = 2.2250738585072014e-308;  // the smallest normal float64
constexpr int64_t kFewestColumns = 64;             // for a thread: less would cut cache lines up

struct Rows {
  const float* features;  // [N, D]
  const double* center;   // [D], or null
  const int64_t* order;   // [N], rows in the order of their classes
  const int64_t* labels;  // [N], their classes
  int64_t rows;
  int64_t columns;
};

LTRSYS_FOR_EACH_PROCESSOR
void add_plain(const float* row, double* sum, int64_t columns, double shifter) {
  for (int64_t column = 0; column < columns; ++column) {
    sum[column] += (static_cast<double>(row[column]) + shifter) - shifter;
  }
}

LTRSYS_FOR_EACH_PROCESSOR
void add_moved(const float* row, const double* center, double length, double* sum, int64_t columns, double shifter) {
  for (int64_t column = 0; column < columns; ++column) {
    const double value = (static_cast<double>(row[column]) - (center == nullptr ? 0.0 : center[column])) / length;
    sum[column] += (value + shifter) - shifter;
  }
}

LTRSYS_FOR_EACH_PROCESSOR
double row_length(const float* row, const double* center, int64_t columns) {
  double sums[kLanes] = {};
  for (int64_t first = 0; first < columns; first += kLanes) {
    const int64_t lanes = columns - first < kLanes ? columns - first : kLanes;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const double value = static_cast<double>(row[first + lane]) - (center == nullptr ? 0.0 : center[first + lane]);
      const double square = value * value;
      sums[lane] += square;
    }
  }
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return std::sqrt(sums[0]);
}

// Add the columns [first, past) of all rows. A class is summed up in memory that stays in the cache, then added to
// `sums` (float64, accumulates) or written to `means` (float32, of one call): one of them is null.
void add_columns(const Rows& rows, const double* lengths, double shifter, int64_t first, int64_t past, double* sums,
                 float* totals) {
  const int64_t width = past - first;
  std::vector<double> sum(width);
  for (int64_t begin = 0; begin < rows.rows;) {
    const int64_t label = rows.labels[begin];
    std::fill(sum.begin(), sum.end(), 0.0);
    int64_t end = begin;
    for (; end < rows.rows && rows.labels[end] == label; ++end) {
      const float* row = rows.features + rows.order[end] * rows.columns + first;
      if (lengths == nullptr && rows.center == nullptr) {
        add_plain(row, sum.data(), width, shifter);
      } else {
        const double* center = rows.center == nullptr ? nullptr : rows.center + first;
        const double length = lengths == nullptr ? 1.0 : lengths[rows.order[end]];
        add_moved(row, center, length, sum.data(), width, shifter);
      }
    }
    for (int64_t column = 0; column < width; ++column) {
      const int64_t place = label * rows.columns + first + column;
      if (sums != nullptr) sums[place] += sum[column];
      if (totals != nullptr) totals[place] = static_cast<float>(sum[column]);
    }
    begin = end;
  }
}

template <typename Task>
void in_parallel(int64_t threads, const Task& task) {
  std::vector<std::thread> others;
  for (int64_t number = 1; number < threads; ++number) others.emplace_back(task, number);
  task(0);
  for (std::thread& other : others) other.join();
}

}  // namespace

extern "C" void ltrsys_class_sums(const float* features, const double* center, const int64_t* order,
                                  const int64_t* labels, int64_t num_rows, int64_t columns, double shifter,
                                  int32_t normalize, int64_t threads, double* sums, float* totals) {
  const Rows rows = {features, center, order, labels, num_rows, columns};
  std::unique_ptr<double[]> lengths;
  if (normalize) {
    lengths.reset(new double[num_rows]);
    in_parallel(threads, [&](int64_t number) {
      for (int64_t row = num_rows * number / threads; row < num_rows * (number + 1) / threads; ++row) {
        const double length = row_length(features + row * columns, center, columns);
        lengths[row] = length < kTiny ? kTiny : length;
      }
    });
  }
  const int64_t most = (columns + kFewestColumns - 1) / kFewestColumns;
  const int64_t parts = threads < most ? threads : most;
  in_parallel(parts, [&](int64_t number) {
    const int64_t first = columns * number / parts, past = columns * (number + 1) / parts;
    add_columns(rows, lengths.get(), shifter, first, past, sums, totals);
  });
}
