"""The weights that are generated from a few features, against their formula."""

import math

import numpy as np
import torch

from ltrsys.models.weight_generator import WeightGenerator
from tests.classifiers.conftest import CPU

V, S, B, D = 3, 4, 5, 6


def random_case() -> tuple[WeightGenerator, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a generator in float64, support features, base weights and which of them are hidden."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    generator = WeightGenerator(normal(D), normal(D), normal(D, D), normal(B, D), torch.tensor(3.0).double())
    return generator, normal(V, S, D), normal(B, D), torch.tensor([False, True, False, False, True])


def test_a_case_that_can_be_computed_by_hand() -> None:
    generator = WeightGenerator(
        average_D=torch.tensor([2.0, 1.0]),
        attention_D=torch.tensor([1.0, 4.0]),
        query_DD=torch.eye(2),
        keys_BD=torch.tensor([[7.0, 0.0], [0.0, 1.0]]),
        scale=torch.tensor(math.log(3)),
    )
    support_VSD, base_BD = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[0.0, 2.0], [5.0, 0.0]])
    # the cosines with the keys are 1 and 0, so that attention is 3/4 and 1/4: (1/4, 3/4) of the base weights
    torch.testing.assert_close(generator.weights(support_VSD, base_BD), torch.tensor([[2 + 1 / 4, 4 * 3 / 4]]))
    hidden_B = torch.tensor([False, True])
    torch.testing.assert_close(generator.weights(support_VSD, base_BD, hidden_B), torch.tensor([[2.0, 4.0]]))


def test_weights_are_those_of_the_formula_written_out() -> None:
    generator, support_VSD, base_BD, hidden_B = random_case()
    average, attention, query, keys, scale = (tensor.numpy() for tensor in generator.parameters())
    base, hidden = base_BD.numpy(), hidden_B.numpy()
    for of_class, found in zip(support_VSD.numpy(), generator.weights(support_VSD, base_BD, hidden_B), strict=True):
        expected = np.zeros(D)
        for feature in of_class:
            z = feature / np.sqrt(np.sum(feature**2))
            asked = query @ z
            visible = [b for b in range(B) if not hidden[b]]
            likeness = {
                b: np.exp(scale * (asked @ keys[b]) / np.sqrt((asked @ asked) * (keys[b] @ keys[b]))) for b in visible
            }
            attended = sum(likeness[b] / sum(likeness.values()) * base[b] / np.sqrt(base[b] @ base[b]) for b in visible)
            expected += (average * z + attention * attended) / S
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_gradients_reach_all_that_is_learned_and_nothing_that_is_hidden() -> None:
    generator, support_VSD, base_BD, hidden_B = random_case()
    learned = [tensor.requires_grad_() for tensor in (*generator.parameters(), base_BD)]

    def weights(*parts: torch.Tensor) -> torch.Tensor:
        return WeightGenerator(*parts[:-1]).weights(support_VSD, parts[-1], hidden_B)

    assert torch.autograd.gradcheck(weights, tuple(learned))
    weights(*learned).square().sum().backward()
    for tensor in learned:
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0
    for of_classes in (generator.keys_BD, base_BD):
        assert of_classes.grad is not None
        assert not of_classes.grad[hidden_B].any()
        assert of_classes.grad[~hidden_B].any(dim=1).all()


def test_classes_in_another_order_are_the_same_classes() -> None:
    generator, support_VSD, base_BD, hidden_B = random_case()
    expected = generator.weights(support_VSD, base_BD, hidden_B)
    order_V, order_S, order_B = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2]), torch.tensor([4, 2, 0, 1, 3])
    average, attention, query, keys, scale = generator.parameters()
    moved = WeightGenerator(average, attention, query, keys[order_B], scale)
    found = moved.weights(support_VSD[order_V][:, order_S], base_BD[order_B], hidden_B[order_B])
    torch.testing.assert_close(found, expected[order_V])


def test_lengths_of_features_keys_and_base_weights_play_no_part() -> None:
    generator, support_VSD, base_BD, _ = random_case()
    average, attention, query, keys, scale = generator.parameters()
    longer = WeightGenerator(average, attention, query, 5 * keys, scale)
    torch.testing.assert_close(
        longer.weights(3 * support_VSD, 2 * base_BD), generator.weights(support_VSD, base_BD), rtol=1e-12, atol=0
    )


def test_training_begins_as_in_the_authors_code_by_the_seed_alone() -> None:
    start = WeightGenerator.start(100, 64, seed=3, device=CPU)
    again, other = (WeightGenerator.start(100, 64, seed=seed, device=CPU) for seed in (3, 4))
    assert all(map(torch.equal, start.parameters(), again.parameters()))
    assert not torch.equal(start.keys_BD, other.keys_BD)
    assert all(tensor.requires_grad for tensor in start.parameters())
    assert bool((start.average_D == 1).all())
    assert bool((start.attention_D == 1).all())
    assert float(start.scale.detach()) == 10
    noise = (start.query_DD - torch.eye(64)).detach()
    # of n normal numbers, the mean of squares has a relative deviation of sqrt(2/n)
    assert abs(float(noise.square().mean()) / 0.001**2 - 1) < 5 * (2 / 64**2) ** 0.5
    assert abs(float(start.keys_BD.detach().square().mean()) / (2 / 64) - 1) < 5 * (2 / 6400) ** 0.5
