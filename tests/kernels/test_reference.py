"""What the reference counts as equal, and as the best."""

import pytest
import torch

from ltrsys.kernels import reference, top_classes


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


VECTORS_THAT_COLLIDE = {
    "opposites": torch.cat([random(20, 64), -random(20, 64)]),
    "signs": random(60, 8).sign(),
    "binary": torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6),
    "whole numbers": random(300, 7).round(),
    "bfloat16": random(500, 32).bfloat16(),
    "zeros": torch.tensor([[0.0, -0.0], [-0.0, 0.0], [1.0, 0.0]]),
}


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("kind", VECTORS_THAT_COLLIDE)
def test_equal_vectors_are_found_whatever_their_hashes(
    kind: str, hashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hashed:
        monkeypatch.setattr(reference, "_hashes", lambda bits_CD: bits_CD[:, 0] & 1)
    vectors = VECTORS_THAT_COLLIDE[kind].double().repeat(3, 1)
    first: dict[tuple[float, ...], int] = {}
    expected = [first.setdefault(tuple(vector.tolist()), number) for number, vector in enumerate(vectors + 0.0)]
    assert reference.lowest_equal(vectors).tolist() == expected


def test_no_class_is_among_the_best_twice() -> None:
    scores = torch.tensor([[-torch.inf, -torch.inf, 1.0], [-torch.inf] * 3, [2.0, -torch.inf, 3.0]])
    assert top_classes(scores, 3).tolist() == [[2, 0, 1], [0, 1, 2], [2, 0, 1]]
