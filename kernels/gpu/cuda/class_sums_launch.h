// What class_sums.cu offers to class_sums_binding.cpp. Pointers are to device memory; lengths and center may be null.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ltrsys {

// lengths[i] = the L2 norm of row i, minus the center.
template <typename Feature>
void launch_row_lengths(const Feature* features, const double* center, int64_t rows, int64_t columns, double* lengths,
                        cudaStream_t stream);

// sums[labels[i], :] += row order[i], moved, normalised and rounded, for each i; labels ascend.
template <typename Feature>
void launch_class_sums(const Feature* features, const double* center, const double* lengths, const int64_t* order,
                       const int64_t* labels, int64_t rows, int64_t columns, double shifter, double* sums,
                       cudaStream_t stream);

}  // namespace ltrsys
