"""Products with a factor per class, against float64."""

import pytest
import torch
from torch import Tensor

from ltrsys.kernels.gpu.tau_logits import product_of_scaled, scaled_product, transposed_product
from tests.kernels.gpu.conftest import random

pytestmark = pytest.mark.usefixtures("nan_in_new_tensors")

SHAPES = [(1, 1, 8), (37, 23, 17), (64, 64, 16), (70, 130, 33)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def assert_as_float32(product: Tensor, left: Tensor, right: Tensor) -> None:
    """Hold a product to the bound that its docstring derives."""
    assert product.dtype == torch.float32
    exact = left.double() @ right.double()
    size = left.double().abs() @ right.double().abs()
    assert ((product - exact).abs() <= (left.shape[1] + 16) * 2.0**-24 * size).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_products_are_those_of_float32(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    samples, classes, dim = shape
    features, weight = random(samples, dim, dtype=dtype), random(classes, dim, seed=1, dtype=dtype)
    grad, factor = random(samples, classes, seed=2), random(classes, seed=3)
    assert_as_float32(scaled_product(features, weight, factor), features, weight.double().T * factor.double())
    assert_as_float32(product_of_scaled(grad, factor, weight), grad.double() * factor.double(), weight)
    assert_as_float32(transposed_product(grad, features), grad.T, features)


def test_one_product_of_tf32_would_not_do() -> None:
    features, weight = random(20, 256), random(30, 256, seed=1)
    size = features.double().abs() @ weight.double().abs().T
    error = (scaled_product(features, weight, torch.ones(30)) - features.double() @ weight.double().T).abs()
    tf32 = [(values.view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32) for values in (features, weight)]
    single = (tf32[0].double() @ tf32[1].double().T - features.double() @ weight.double().T).abs()
    assert (error / size).max() < 3e-7 < 1e-5 < (single / size).max()


def test_mixed_types_are_widened() -> None:
    features, weight, factor = random(9, 20, dtype=torch.bfloat16), random(5, 20, seed=1), random(5, seed=2)
    assert_as_float32(scaled_product(features, weight, factor), features, weight.double().T * factor.double())


def test_float64_is_computed_in_float64() -> None:
    features, weight, factor = random(9, 20).double(), random(5, 20, seed=1).double(), random(5, seed=2).double()
    assert torch.equal(scaled_product(features, weight, factor), (features @ weight.T) * factor)


def test_numbers_of_any_size_survive_the_splitting() -> None:
    largest = torch.finfo(torch.float32).max
    features = torch.tensor([[largest, 0.0], [-largest, 0.0], [1e-30, 1.0]])
    weight = torch.tensor([[1e-30, 1.0]])
    torch.testing.assert_close(
        scaled_product(features, weight, torch.ones(1)),
        (features.double() @ weight.double().T).float(),
        rtol=1e-6,
        atol=0,
    )


def test_nothing_in_gives_nothing_out() -> None:
    assert scaled_product(random(0, 3), random(2, 3), random(2)).shape == (0, 2)
    assert transposed_product(random(0, 2), random(0, 3)).tolist() == [[0.0] * 3] * 2
