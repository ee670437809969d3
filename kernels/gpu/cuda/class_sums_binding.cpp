// class_sums.cu as a function of torch tensors, which kernels/gpu/class_sums.py has prepared.

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/extension.h>

#include <optional>

#include "class_sums_launch.h"

namespace {

void class_sums(const at::Tensor& features, const std::optional<at::Tensor>& center, bool normalize,
                const at::Tensor& order, const at::Tensor& labels, double shifter, at::Tensor& sums) {
  const c10::cuda::CUDAGuard guard(features.device());
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  const int64_t rows = features.size(0);
  const int64_t columns = features.size(1);
  const double* center_data = center ? center->const_data_ptr<double>() : nullptr;
  const at::Tensor lengths = at::empty({normalize ? rows : 0}, sums.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, features.scalar_type(), "class_sums", [&] {
    const scalar_t* data = features.const_data_ptr<scalar_t>();
    if (normalize) {
      ltrsys::launch_row_lengths(data, center_data, rows, columns, lengths.mutable_data_ptr<double>(), stream);
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    ltrsys::launch_class_sums(data, center_data, normalize ? lengths.const_data_ptr<double>() : nullptr,
                              order.const_data_ptr<int64_t>(), labels.const_data_ptr<int64_t>(), rows, columns,
                              shifter, sums.mutable_data_ptr<double>(), stream);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("class_sums", &class_sums); }
