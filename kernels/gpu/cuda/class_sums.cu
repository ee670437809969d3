// The kernels around class_sums.h, and their launches.

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <cuda_runtime.h>

#include "class_sums.h"
#include "class_sums_launch.h"

namespace ltrsys {
namespace {

constexpr int kWarpsPerBlock = 8;

template <typename Feature>
__global__ void __launch_bounds__(kWarp * kWarpsPerBlock)
    row_lengths(const Feature* __restrict__ features, const double* __restrict__ center, int64_t rows, int64_t columns,
                double* __restrict__ lengths) {
  const int lane = threadIdx.x % kWarp;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / kWarp;
  if (row >= rows) return;  // whole warps leave
  double sums[kSumsPerThread] = {};
  add_squares(features, center, columns, row, lane, sums);
  double sum = add_own_halves(sums);
#pragma unroll
  for (int half = kWarp / 2; half > 0; half /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, half);
  if (lane == 0) lengths[row] = __dsqrt_rn(sum);
}

template <typename Feature>
__global__ void __launch_bounds__(kThreads)
    class_sums(const Feature* __restrict__ features, const double* __restrict__ center,
               const double* __restrict__ lengths, const int64_t* __restrict__ order,
               const int64_t* __restrict__ labels, int64_t rows, int64_t columns, double shifter,
               double* __restrict__ sums) {
  const Stretch stretch = stretch_of(blockIdx.x, blockIdx.y, threadIdx.x, rows);
  add_stretch(stretch, features, center, lengths, order, labels, columns, shifter, sums,
              [](double* sum, double value) { atomicAdd(sum, value); });
}

int64_t blocks_of(int64_t count, int64_t per_block) { return (count + per_block - 1) / per_block; }

}  // namespace

template <typename Feature>
void launch_row_lengths(const Feature* features, const double* center, int64_t rows, int64_t columns, double* lengths,
                        cudaStream_t stream) {
  row_lengths<<<blocks_of(rows, kWarpsPerBlock), kWarp * kWarpsPerBlock, 0, stream>>>(features, center, rows, columns,
                                                                                     lengths);
}

template <typename Feature>
void launch_class_sums(const Feature* features, const double* center, const double* lengths, const int64_t* order,
                       const int64_t* labels, int64_t rows, int64_t columns, double shifter, double* sums,
                       cudaStream_t stream) {
  const dim3 grid(blocks_of(rows, kRowsPerBlock), blocks_of(columns, kThreads));
  class_sums<<<grid, kThreads, 0, stream>>>(features, center, lengths, order, labels, rows, columns, shifter, sums);
}

#define LTRSYS_INSTANTIATE(Feature)                                                                                   \
  template void launch_row_lengths(const Feature*, const double*, int64_t, int64_t, double*, cudaStream_t);          \
  template void launch_class_sums(const Feature*, const double*, const double*, const int64_t*, const int64_t*,      \
                                  int64_t, int64_t, double, double*, cudaStream_t);
LTRSYS_INSTANTIATE(float)
LTRSYS_INSTANTIATE(double)
LTRSYS_INSTANTIATE(c10::BFloat16)
LTRSYS_INSTANTIATE(c10::Half)
#undef LTRSYS_INSTANTIATE

}  // namespace ltrsys
