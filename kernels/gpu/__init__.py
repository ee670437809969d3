"""Checked tensors on a GPU in, the results of an operation out: a module an operation, and what they share.

Triton where there is a matrix product, CUDA C++ where there is none. Triton must be installed; with TRITON_INTERPRET=1
its kernels run in numpy, on CPU tensors.
"""
