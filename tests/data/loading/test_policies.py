"""Which operations an image gets: those of torchvision, each as likely, of the same strengths."""

import numpy as np
import pytest
from scipy.stats import chisquare

from ltrsys.data.config import LEVELS, PolicyConfig
from ltrsys.data.loading.policies import Kind, operations

RAND, TRIVIAL = PolicyConfig(kind="rand_augment"), PolicyConfig(kind="trivial_augment")


def draw(config, count=14_000, *, first=0, seed=0, epoch=0):
    positions, mirror = first + np.arange(count), np.zeros(count, bool)
    return operations(config, seed=seed, epoch=epoch, positions=positions, mirror=mirror, image_size=224)


def name_of(row):
    """Tell the fourteen apart, but for those that a level or a sign has made to nothing."""
    kind = Kind(int(row[0]))
    matrix = row[1:].reshape(2, 3)
    if kind == Kind.WARP:
        turned = matrix[0, 1] != 0 and matrix[1, 0] != 0
        return "rotate" if turned else f"warp {np.flatnonzero((matrix != np.eye(2, 3)).reshape(-1)).tolist()}"
    if kind == Kind.COLOUR:
        return f"colour {np.flatnonzero(row[1:4]).tolist()}"
    return kind.name


def test_every_operation_is_as_likely_whichever_came_before():
    rows = draw(PolicyConfig(kind="rand_augment", operations=2, magnitude=15))
    names = np.array([[name_of(row) for row in steps] for steps in rows])
    for step in range(2):
        found, counts = np.unique(names[:, step], return_counts=True)
        assert len(found) == 14
        assert chisquare(counts).pvalue > 1e-3
    pairs = np.unique(names, axis=0, return_counts=True)[1]
    assert len(pairs) == 14**2
    assert chisquare(pairs).pvalue > 1e-3


def test_rand_augment_has_one_magnitude_and_both_signs_alike():
    rows = draw(RAND)[:, 0]
    shears = rows[(rows[:, 0] == Kind.WARP) & (rows[:, 2] != 0) & (rows[:, 4] == 0), 2]
    values, counts = np.unique(np.round(shears, 6), return_counts=True)
    assert values.tolist() == pytest.approx([-0.09, 0.09])
    assert chisquare(counts).pvalue > 1e-3


def test_trivial_augment_has_one_operation_of_every_magnitude_alike():
    rows = draw(TRIVIAL, 31 * 14 * 40)
    assert rows.shape[1] == 1
    levels = rows[rows[:, 0, 0] == Kind.SOLARIZE, 0, 1]
    values, counts = np.unique(levels, return_counts=True)
    np.testing.assert_allclose(values, np.linspace(0, 255, LEVELS), rtol=1e-6)
    assert chisquare(counts).pvalue > 1e-3


def test_a_position_needs_no_other():
    assert np.array_equal(draw(RAND, 5, first=1003), draw(RAND, 2000)[1003:1008])


def test_seeds_epochs_and_steps_all_matter():
    made = [draw(RAND, 50, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({rows.tobytes() for rows in made} | {made[0][:, ::-1].tobytes()}) == 5


def test_the_first_operations_do_not_depend_on_how_many_there_are():
    three = draw(PolicyConfig(kind="rand_augment", operations=3), 50)
    assert np.array_equal(three[:, :2], draw(RAND, 50))
