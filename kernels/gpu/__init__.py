"""Checked tensors on a GPU in, results out: Triton where there is a matrix product, CUDA C++ where there is none."""
