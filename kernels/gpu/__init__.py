"""The operations on a GPU, a module each: Triton where there is a matrix product, CUDA C++ where there is none.

Inputs have been checked. Triton must be installed; with TRITON_INTERPRET=1 its kernels run in numpy, on CPU tensors.
"""
