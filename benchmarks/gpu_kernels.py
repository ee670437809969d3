"""The kernels on a GPU beside cuBLAS, `torch.compile` and faiss, and what of the roofline they reach.

Nothing but torch, triton and numpy is needed; faiss is measured where it is installed for GPUs. On a CPU, where the
script is rehearsed, times are those of the CPU, and nothing is known of the roofline.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_peaks import Peaks, Work, peaks_of
from benchmarks.report import Table, interleaved, main
from benchmarks.timing import clocked
from ltrsys.kernels import class_sums, ncm_search, norm_factor, row_norms, tau_logits, tau_sweep

COLUMNS = ("way", "ms", "ours / this", "least, ms", "share of the roofline", "as ours, %")
NUM_TAUS = 21


@dataclass(frozen=True)
class Sizes:
    """N features of D numbers, C classes; B features of a training step."""

    rows: int = 24_426
    features: int = 2048
    classes: int = 8142
    batch: int = 512
    rounds: int = 15


QUICK = Sizes(rows=192, features=64, classes=96, batch=32, rounds=2)


@dataclass(frozen=True)
class Way:
    """One way to do a task, and the least work in it."""

    run: Callable[[], Any]
    work: Work
    classes: Callable[[Any], Tensor] | None = None
    """Takes the classes out of what `run` returns, where there are some."""


@dataclass(frozen=True)
class Case:
    """A task with all its data, on the device."""

    sizes: Sizes
    device: torch.device
    peaks: Peaks | None
    features_ND: Tensor
    labels_N: Tensor
    weight_CD: Tensor

    @classmethod
    def make(cls, sizes: Sizes, device: torch.device) -> "Case":
        """Make features as after a ReLU, around the directions of their classes, and weights of different lengths."""
        generator = torch.Generator(device).manual_seed(0)
        directions_CD = torch.randn(sizes.classes, sizes.features, generator=generator, device=device)
        labels_N = torch.randint(0, sizes.classes, (sizes.rows,), generator=generator, device=device)
        features_ND = torch.randn(sizes.rows, sizes.features, generator=generator, device=device)
        features_ND.add_(directions_CD[labels_N], alpha=0.5).sub_(0.3).relu_().mul_(0.6)
        lengths_C1 = torch.logspace(-0.3, 0.3, sizes.classes, device=device)[:, None]
        noise_CD = torch.randn(sizes.classes, sizes.features, generator=generator, device=device)
        weight_CD = directions_CD.mul_(0.03).add_(noise_CD, alpha=0.02).mul_(lengths_C1)
        peaks = peaks_of(torch.cuda.get_device_name()) if device.type == "cuda" else None
        return cls(sizes, device, peaks, features_ND, labels_N, weight_CD)

    def product(self, rows: int) -> float:
        """Return the operations of the product of so many features with all classes."""
        return 2.0 * rows * self.sizes.classes * self.sizes.features

    def inputs(self, rows: int, size: int = 4) -> float:
        """Return the bytes of so many features and all class vectors, with so many bytes a number."""
        return float(size * self.sizes.features * (rows + self.sizes.classes))

    def scores(self, rows: int, size: int = 4) -> float:
        """Return the bytes of all scores of so many features."""
        return float(size * rows * self.sizes.classes)

    def note(self, rows: int) -> str:
        """Say how large the task is, and where it is measured."""
        where = f"on {torch.cuda.get_device_name()}" if self.device.type == "cuda" else "on a CPU: a rehearsal"
        return (
            f"N = {rows:,}, C = {self.sizes.classes:,}, D = {self.sizes.features:,}; medians of {self.sizes.rounds} "
            f"turns, {where}."
        )


def measure(quick: bool) -> Iterator[Table]:
    """Measure each operation beside its peers, each as soon as the one before is done.

    Ends the process with a line where one of ours has failed; peers may.
    """
    tables = list[Table]()
    for table in _tables(quick):
        tables.append(table)
        yield table
    failed = [table.title for table in tables if table.rows[0]["ms"] is None]
    if failed:
        sys.exit("\n".join([f"failed: {', '.join(failed)}", *(n for t in tables for n in t.notes if "failed:" in n)]))


def _tables(quick: bool) -> Iterator[Table]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    case = Case.make(QUICK if quick else Sizes(), device)
    for k in (1, 5, min(100, case.sizes.classes)):
        yield _table(f"ncm_search, k = {k}", case, case.sizes.rows, _search(case, k))
    yield _table(f"tau_sweep, {NUM_TAUS} values of tau", case, case.sizes.rows, _sweep(case))
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        rows = case.sizes.batch
        yield _table(f"tau_logits, {name}, forward, a batch", case, rows, _forward(case, dtype, rows))
        yield _table(f"tau_logits, {name}, forward and backward, a batch", case, rows, _backward(case, dtype, rows))
    yield _table(
        "tau_logits, float32, forward, all", case, case.sizes.rows, _forward(case, torch.float32, case.sizes.rows)
    )
    yield _table("class_sums", case, case.sizes.rows, _sums(case))


def _search(case: Case, k: int) -> dict[str, Way]:
    rows = case.sizes.rows
    features, means = (torch.nn.functional.normalize(vectors) for vectors in (case.features_ND, case.weight_CD))

    def product_and_topk(features: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
        values, classes = (features @ means.T).topk(k, dim=1)
        return values, classes

    screened = Work(case.inputs(rows) + 3 * case.inputs(rows, 2), bf16=2 * case.product(rows))
    plain = Work(case.inputs(rows) + 2 * case.scores(rows), fp32=case.product(rows))
    in_bf16 = Work(case.inputs(rows, 2) + 2 * case.scores(rows, 2), bf16=case.product(rows))
    low = features.bfloat16(), means.bfloat16()
    ways = {
        "ncm_search": Way(lambda: ncm_search(features, means, k), screened, _second),
        "float32 product and topk": Way(lambda: product_and_topk(features, means), plain, _second),
        "the same, torch.compile": Way(partial(torch.compile(product_and_topk), features, means), plain, _second),
        "bf16 product and topk": Way(lambda: product_and_topk(*low), in_bf16, _second),
    }
    index = _faiss_index(means)
    if index is not None:
        ways["faiss, flat index"] = Way(lambda: index.search(features, k), plain, _second)
    return ways


def _faiss_index(means: Tensor) -> Any:
    """Return an index of faiss where the means are; None where faiss, or faiss for GPUs, is not installed."""
    try:
        import faiss
        import faiss.contrib.torch_utils  # which has faiss take tensors
    except ImportError:
        return None
    index: Any = faiss.IndexFlatIP(means.shape[1])
    if means.device.type == "cuda":
        if not hasattr(faiss, "StandardGpuResources"):
            return None
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    index.add(means)
    return index


def _sweep(case: Case) -> dict[str, Way]:
    rows = case.sizes.rows
    features, weight = case.features_ND, case.weight_CD
    taus = torch.linspace(0, 2, NUM_TAUS, device=case.device)

    def one_product(features: Tensor, weight: Tensor) -> Tensor:
        scores_NC = features @ weight.T
        return torch.stack([(scores_NC * factor_C).argmax(dim=1) for factor_C in norm_factor(weight, taus[:, None])])

    screened = Work(case.inputs(rows) + 3 * case.inputs(rows, 2), bf16=2 * case.product(rows))
    product = Work(case.inputs(rows) + case.scores(rows), fp32=case.product(rows))
    peer = Work(product.bytes + 3 * NUM_TAUS * case.scores(rows), fp32=product.fp32)
    fused = Work(product.bytes + case.scores(rows), fp32=product.fp32)
    return {
        "tau_sweep": Way(lambda: tau_sweep(features, weight, taus), screened, _itself),
        "float32 product alone": Way(lambda: features @ weight.T, product),
        "float32 product, scalings and argmax": Way(lambda: one_product(features, weight), peer, _itself),
        "the same, torch.compile": Way(partial(torch.compile(one_product), features, weight), fused, _itself),
    }


def _formula(
    features_ND: Tensor, weight_CD: Tensor, tau: Tensor, scale_C: Tensor, norms_C: Tensor | None = None
) -> Tensor:
    norms_C = weight_CD.float().norm(dim=1) if norms_C is None else norms_C
    return (features_ND @ weight_CD.T).float() * (scale_C * norms_C**-tau)


def _forward(case: Case, dtype: torch.dtype, rows: int) -> dict[str, Way]:
    features, weight = case.features_ND[:rows].to(dtype), case.weight_CD.to(dtype)
    tau, scale = torch.full((), 0.7, device=case.device), torch.ones(case.sizes.classes, device=case.device)
    norms = row_norms(weight)
    own, inputs = (features, weight, tau, scale, norms), (features, weight, tau, scale, norms.float())
    moved = case.inputs(rows, features.element_size()) + case.scores(rows)
    work = _peer_work(case, dtype, rows, moved)
    return {
        "tau_logits": Way(partial(torch.no_grad()(tau_logits), *own), _product_work(case, dtype, rows, moved)),
        "plain torch": Way(partial(torch.no_grad()(_formula), *inputs), work),
        "the same, torch.compile": Way(partial(torch.no_grad()(torch.compile(_formula)), *inputs), work),
    }


def _backward(case: Case, dtype: torch.dtype, rows: int) -> dict[str, Way]:
    features = case.features_ND[:rows].to(dtype).requires_grad_()
    weight = case.weight_CD.to(dtype).requires_grad_()
    tau = torch.full((), 0.7, device=case.device).requires_grad_()
    scale = torch.ones(case.sizes.classes, device=case.device).requires_grad_()
    gradient = torch.randn(rows, case.sizes.classes, device=case.device)
    leaves = (features, weight, tau, scale)
    compiled = torch.compile(_formula)

    def through(formula: Callable[..., Tensor]) -> None:
        for leaf in leaves:
            leaf.grad = None
        formula(*leaves).backward(gradient)

    size = features.element_size()
    # The logits are written, their gradient is read twice; both inputs are read twice, and their gradients written.
    moved = 3 * case.inputs(rows, size) + 3 * case.scores(rows)
    return {
        "tau_logits": Way(partial(through, tau_logits), _product_work(case, dtype, rows, moved, 3)),
        "plain torch": Way(partial(through, _formula), _peer_work(case, dtype, rows, moved, 3)),
        "the same, torch.compile": Way(partial(through, compiled), _peer_work(case, dtype, rows, moved, 3)),
    }


def _product_work(case: Case, dtype: torch.dtype, rows: int, moved: float, products: int = 1) -> Work:
    """Return the work of our products: in float32 each is three of TF32."""
    if dtype == torch.float32:
        return Work(moved, tf32=3 * products * case.product(rows))
    return Work(moved, bf16=products * case.product(rows))


def _peer_work(case: Case, dtype: torch.dtype, rows: int, moved: float, products: int = 1) -> Work:
    operations = products * case.product(rows)
    return Work(moved, fp32=operations) if dtype == torch.float32 else Work(moved, bf16=operations)


def _sums(case: Case) -> dict[str, Way]:
    features, labels, sizes = case.features_ND, case.labels_N, case.sizes

    def index_add(features: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros(sizes.classes, sizes.features, device=case.device).index_add_(0, labels, features)

    work = Work(case.inputs(sizes.rows) + 8 * sizes.rows)
    return {
        "class_sums": Way(lambda: class_sums(features, labels, sizes.classes), work),
        "class_sums, normalised": Way(lambda: class_sums(features, labels, sizes.classes, normalize=True), work),
        "index_add_": Way(lambda: index_add(features, labels), work),
        "the same, torch.compile": Way(partial(torch.compile(index_add), features, labels), work),
    }


def _second(found: tuple[Tensor, Tensor]) -> Tensor:
    return found[1]


def _itself(found: Tensor) -> Tensor:
    return found


def _table(title: str, case: Case, rows: int, ways: Mapping[str, Way]) -> Table:
    """Measure all ways in turn; one that fails is in the table without a time, and a note says why."""
    torch._dynamo.reset()  # other shapes would be taken for changing ones
    notes, answers = [case.note(rows)], {}
    for name, way in ways.items():
        try:
            found = way.run()  # once, to have everything compiled
            clocked(way.run, case.device)
            answers[name] = None if way.classes is None else way.classes(found).cpu()
        except Exception as error:
            notes.append(f"{name} failed: {(str(error).splitlines() or [''])[0][:300] or type(error).__name__}")
    found = None
    seconds = interleaved({name: partial(clocked, ways[name].run, case.device) for name in answers}, case.sizes.rounds)
    lines = []
    ours = next(iter(ways))
    for name, way in ways.items():
        took = median(seconds[name]) if name in seconds else None
        least = way.work.least_seconds(case.peaks)
        pairs = zip(seconds[ours], seconds[name], strict=True) if {ours, name} <= seconds.keys() else ()
        mine, its = answers.get(ours), answers.get(name)
        lines.append(
            {
                "way": name,
                "ms": took and 1000 * took,
                "ours / this": median(ratios) if (ratios := [a / b for a, b in pairs]) else None,
                "least, ms": least and 1000 * least,
                "share of the roofline": least / took if least and took else None,
                "as ours, %": None if mine is None or its is None else 100 * float((mine == its).double().mean()),
            }
        )
    if case.device.type == "cuda" and case.peaks is None:
        notes.append("Nothing is known here of what this GPU can do at most, so there is no roofline.")
    return Table(title, COLUMNS, lines, notes)


if __name__ == "__main__":
    main("gpu_kernels", measure)
