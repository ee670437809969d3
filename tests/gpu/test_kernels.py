"""The operations on a real GPU, through the public functions: the answers of float64 and the bits of the CPU."""

import pytest
import torch
from torch import Tensor

from ltrsys.kernels import ClassSums, class_sums, ncm_search, tau_logits, tau_sweep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels of a GPU need one, and there is none"),
]

SHAPES = [(1, 1, 8), (37, 23, 17), (300, 507, 123), (1000, 8142, 2048)]
"""8142 = 2·3·23·59 fits no block."""
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
TAUS = torch.arange(0, 2.01, 0.1)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def long_tailed(num_classes: int, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (random(num_classes, dim, seed=1) * torch.logspace(-0.5, 0.5, num_classes)[:, None]).to(dtype)


def near_ties(num_rows: int, num_classes: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return features, and classes in two opposite bundles, as close to each for all that bfloat16 can tell."""
    base = random(1, dim, seed=1)
    side = torch.tensor([-1.0, 1.0]).repeat(num_classes // 2)[:, None]
    return random(num_rows, dim) + base, side * base + 1e-2 * random(num_classes, dim, seed=2)


@pytest.fixture(autouse=True)
def float32_products_on_the_oracle_side() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tau_logits_err_no_more_than_float32(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    samples, classes, dim = shape
    features, weight = random(samples, dim, dtype=dtype).cuda(), long_tailed(classes, dim, dtype).cuda()
    scale = random(classes, seed=3).cuda()
    logits = tau_logits(features, weight, 0.7, scale)
    wide = weight.double()
    factor = wide.norm(dim=1) ** -0.7 * scale
    exact = (features.double() @ wide.T) * factor
    size = (features.double().abs() @ wide.abs().T) * factor.abs()
    assert logits.dtype == torch.float32
    assert ((logits - exact).abs() <= (dim + 16) * 2.0**-24 * size).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_those_of_the_formula_in_float64(shape: tuple[int, int, int]) -> None:
    samples, classes, dim = shape
    inputs = [random(samples, dim), long_tailed(classes, dim), torch.tensor(0.7), random(classes, seed=3)]
    upstream = random(samples, classes, seed=4).cuda()
    exact = [values.double().cuda().requires_grad_() for values in inputs]
    ours = [values.cuda().requires_grad_() for values in inputs]
    tau_logits(*ours).backward(upstream)
    features, weight, tau, scale = exact
    ((features @ weight.T) * weight.norm(dim=1) ** -tau * scale).backward(upstream.double())
    for mine, expected in zip(ours, exact, strict=True):
        error = (mine.grad - expected.grad).norm() / expected.grad.norm()
        assert error < 1e-5


def test_double_precision_passes_gradcheck() -> None:
    inputs = [random(5, 4), random(3, 4, seed=1), torch.tensor(0.7), random(3, seed=2)]
    assert torch.autograd.gradcheck(tau_logits, [values.cuda().double().requires_grad_() for values in inputs])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tau_sweep_is_that_of_float64_and_of_the_cpu(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    samples, classes, dim = shape
    features, weight = random(samples, dim, dtype=dtype), long_tailed(classes, dim, dtype)
    found = tau_sweep(features.cuda(), weight.cuda(), TAUS.cuda()).cpu()
    wide = weight.double().cuda()
    scores = features.double().cuda() @ wide.T
    exact = torch.stack([(scores * wide.norm(dim=1) ** -float(tau)).argmax(dim=1) for tau in TAUS]).cpu()
    assert torch.equal(found, exact)
    assert torch.equal(found, tau_sweep(features, weight, TAUS))


def test_near_ties_of_a_sweep_are_decided_exactly() -> None:
    features, weight = near_ties(500, 600, 256)
    found = tau_sweep(features.cuda(), weight.cuda(), TAUS.cuda()).cpu()
    scores = features.double() @ weight.double().T
    exact = torch.stack([(scores * weight.double().norm(dim=1) ** -float(tau)).argmax(dim=1) for tau in TAUS])
    rounded = (features.bfloat16().double() @ weight.bfloat16().double().T).argmax(dim=1)
    assert (rounded != exact[0]).float().mean() > 0.2
    assert torch.equal(found, exact)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("centered", [False, True])
def test_ncm_search_is_that_of_float64_and_of_the_cpu(
    shape: tuple[int, int, int], metric: str, k: int, centered: bool
) -> None:
    samples, num_classes, dim = shape
    k = min(k, num_classes)
    features, means = random(samples, dim) + 1, random(num_classes, dim, seed=1)
    center = random(dim, seed=2) if centered else None
    scores, classes = ncm_search(features.cuda(), means.cuda(), k, metric, None if center is None else center.cuda())
    moved = features.double().cuda() - (0.0 if center is None else center.double().cuda())
    wide = means.double().cuda()
    exact = (
        torch.nn.functional.normalize(moved) @ torch.nn.functional.normalize(wide).T
        if metric == "cosine"
        else -torch.cdist(moved, wide, compute_mode="donot_use_mm_for_euclid_dist")
    )
    expected = exact.sort(dim=1, descending=True, stable=True)
    assert torch.equal(classes, expected.indices[:, :k])
    torch.testing.assert_close(scores.double(), expected.values[:, :k], rtol=1e-6, atol=1e-6)
    on_cpu = ncm_search(features, means, k, metric, center)
    assert torch.equal(classes.cpu(), on_cpu[1])
    torch.testing.assert_close(scores.cpu(), on_cpu[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_near_ties_of_a_search_are_decided_exactly(metric: str) -> None:
    features, means = near_ties(500, 600, 256)
    found = ncm_search(features.cuda(), means.cuda(), 5, metric)[1].cpu()
    assert torch.equal(found, ncm_search(features, means, 5, metric)[1])


def test_ties_and_zero_vectors_take_the_lowest_class() -> None:
    features, classes = random(70, 64), random(300, 64, seed=1)
    features[3] = 0
    classes[150:] = classes[:150]
    assert torch.equal(
        tau_sweep(features.cuda(), classes.cuda(), TAUS.cuda()).cpu(), tau_sweep(features, classes, TAUS)
    )
    for metric in ("cosine", "euclidean"):
        found = ncm_search(features.cuda(), classes.cuda(), 6, metric)[1].cpu()
        assert torch.equal(found, ncm_search(features, classes, 6, metric)[1])


@pytest.mark.parametrize("shape", [(1, 1, 1), (63, 5, 7), (5000, 8142, 2048), (5000, 11, 300)], ids=str)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("centered", [False, True])
def test_class_sums_have_the_bits_of_the_cpu(
    shape: tuple[int, int, int], dtype: torch.dtype, normalize: bool, centered: bool
) -> None:
    rows, num_classes, columns = shape
    features = random(rows, columns, dtype=dtype)
    labels = torch.randint(0, num_classes, (rows,), generator=torch.Generator().manual_seed(1))
    center = random(columns, seed=2) if centered else None
    on_cpu = class_sums(features, labels, num_classes, normalize, center)
    for _ in range(3):
        on_gpu = class_sums(
            features.cuda(), labels.cuda(), num_classes, normalize, None if center is None else center.cuda()
        )
        assert all(torch.equal(mine.cpu(), theirs) for mine, theirs in zip(on_gpu, on_cpu, strict=True))


def test_class_sums_in_blocks_have_the_bits_of_one_block() -> None:
    features = random(3000, 200).cuda()
    labels = torch.randint(0, 40, (3000,), generator=torch.Generator().manual_seed(1)).cuda()
    sums = ClassSums(40, 200, num_rows=3000, normalize=True, device=features.device)
    for first in (1000, 0, 2000):
        sums.add(features[first : first + 1000], labels[first : first + 1000])
    whole = ClassSums(40, 200, num_rows=3000, normalize=True, device=features.device)
    whole.add(features, labels)
    assert torch.equal(sums.sums_CD, whole.sums_CD)


def test_the_cuda_extension_is_there() -> None:
    from ltrsys.kernels.gpu.class_sums import _extension

    assert _extension() is not None, "class_sums ran in torch: see the warning that says why"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="another GPU than the current one needs two GPUs")
def test_tensors_on_another_gpu_than_the_current_one_have_the_same_answers() -> None:
    features, weight, taus = random(300, 123), long_tailed(507, 123), TAUS
    labels = torch.randint(0, 507, (300,), generator=torch.Generator().manual_seed(1))
    results = []
    for device in ("cuda:0", "cuda:1"):
        inputs = [values.to(device) for values in (features, weight, taus, labels, features[0])]
        learned = [values.clone().requires_grad_() for values in inputs[:2]]
        with torch.cuda.device(0):
            logits = tau_logits(*learned, 0.7)
            logits.square().sum().backward()
            found = [logits, *(values.grad for values in learned), tau_sweep(*inputs[:3])]
            found += [*ncm_search(*inputs[:2], 5, "cosine", inputs[4]), *class_sums(inputs[0], inputs[3], 507, True)]
            assert torch.cuda.current_device() == 0
        assert all(values.device == torch.device(device) for values in found)
        results.append([values.detach().cpu() for values in found])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_compiled_programs_trace_through() -> None:
    features, weight = random(64, 32).cuda(), random(50, 32, seed=1).cuda()
    compiled = torch.compile(lambda features, weight: tau_sweep(features * 2, weight, TAUS.cuda()), fullgraph=True)
    assert torch.equal(compiled(features, weight), tau_sweep(features * 2, weight, TAUS.cuda()))
