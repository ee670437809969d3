// Sums of rows by class on a CPU: one pass over the rows, a class at a time, with the bits of every other way.
//
// Every number that is added is a multiple of one power of two, so small that no partial sum needs more than float64's
// 53 bits: threads may share the work out as they like. The length of a row is added up in a fixed order. Both are
// described in kernels/reproducible_sums.py.
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
constexpr int kTogether = 4;                       // rows that are added at once

struct Rows {
  const float* features;  // [N, D]
  const double* center;   // [D], or null
  const int64_t* order;   // [N], rows in the order of their classes
  const int64_t* labels;  // [N], their classes
  int64_t rows;
  int64_t columns;
  int64_t classes;
};

// Add four rows at once, so that the sums are loaded and stored once for them. The first four of a class begin its sums.
LTRSYS_FOR_EACH_PROCESSOR
void add_plain(const float* const (&rows)[kTogether], bool begins, double* sum, int64_t columns, double shifter) {
  const float *first = rows[0], *second = rows[1], *third = rows[2], *fourth = rows[3];
  const double keep = begins ? 0.0 : 1.0;
  for (int64_t column = 0; column < columns; ++column) {
    const double one = (static_cast<double>(first[column]) + shifter) - shifter;
    const double two = (static_cast<double>(second[column]) + shifter) - shifter;
    const double three = (static_cast<double>(third[column]) + shifter) - shifter;
    const double four = (static_cast<double>(fourth[column]) + shifter) - shifter;
    sum[column] = keep * sum[column] + ((one + two) + (three + four));
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
// `sums` (float64, of many calls) or written to `totals` (float32, of this call, which need not be zero before): one of
// them is null.
void add_columns(const Rows& rows, const double* lengths, double shifter, int64_t first, int64_t past, double* sums,
                 float* totals) {
  const int64_t width = past - first;
  const bool plain = lengths == nullptr && rows.center == nullptr;
  const double* center = rows.center == nullptr ? nullptr : rows.center + first;
  const std::vector<float> nothing(width);
  std::vector<double> sum(width);
  const auto leave_out = [&](int64_t from, int64_t to) {
    for (int64_t label = from; totals != nullptr && label < to; ++label) {
      std::fill_n(totals + label * rows.columns + first, width, 0.0f);
    }
  };
  int64_t next_label = 0;
  for (int64_t begin = 0, end = 0; begin < rows.rows; begin = end) {
    const int64_t label = rows.labels[begin];
    leave_out(next_label, label);
    next_label = label + 1;
    while (end < rows.rows && rows.labels[end] == label) ++end;
    if (!plain) std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t next = begin; next < end;) {
      if (plain) {
        const float* together[kTogether];
        for (int number = 0; number < kTogether; ++number) {
          const int64_t place = next + number;
          together[number] = place < end ? rows.features + rows.order[place] * rows.columns + first : nothing.data();
        }
        add_plain(together, next == begin, sum.data(), width, shifter);
        next += kTogether;
      } else {
        const int64_t row = rows.order[next++];
        const double length = lengths == nullptr ? 1.0 : lengths[row];
        add_moved(rows.features + row * rows.columns + first, center, length, sum.data(), width, shifter);
      }
    }
    const int64_t place = label * rows.columns + first;
    if (sums != nullptr) {
      for (int64_t column = 0; column < width; ++column) sums[place + column] += sum[column];
    }
    if (totals != nullptr) {
      for (int64_t column = 0; column < width; ++column) totals[place + column] = static_cast<float>(sum[column]);
    }
  }
  leave_out(next_label, rows.classes);
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
                                  const int64_t* labels, int64_t num_rows, int64_t columns, int64_t classes,
                                  double shifter, int32_t normalize, int64_t threads, double* sums, float* totals) {
  const Rows rows = {features, center, order, labels, num_rows, columns, classes};
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
