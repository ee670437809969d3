import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrsys.training.schedules.cosine import Cosine


def factors(config: Cosine, steps_per_epoch: int, epochs: int) -> list[float]:
    return [
        config.factor(step, steps_per_epoch=steps_per_epoch, epochs=epochs) for step in range(steps_per_epoch * epochs)
    ]


def test_by_iteration_it_is_the_cosine_from_one_to_nearly_zero():
    by_step = factors(Cosine(), 4, 5)
    assert by_step == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20)])


def test_by_epoch_it_is_the_paper_s_and_the_last_epoch_has_none():
    by_step = factors(Cosine(step="epoch"), 3, 90)
    expected = [0.5 * (1 + math.cos(math.pi * (epoch + 1) / 90)) for epoch in range(90)]
    assert by_step == pytest.approx([factor for factor in expected for _ in range(3)])
    assert by_step[-3:] == [0.0] * 3


@given(
    steps_per_epoch=st.integers(1, 50),
    epochs=st.integers(1, 20),
    step=st.sampled_from(["iteration", "epoch"]),
    warmup=st.floats(0, 30, allow_nan=False),
)
def test_it_stays_between_zero_and_one_and_rises_only_while_warming_up(steps_per_epoch, epochs, step, warmup):
    by_step = factors(Cosine(step=step, warmup_epochs=warmup), steps_per_epoch, epochs)
    assert all(0 <= factor <= 1 for factor in by_step)
    for number, (one, after) in enumerate(itertools.pairwise(by_step), start=1):
        assert after <= one or number - 1 < warmup * steps_per_epoch


def test_the_warmup_rises_linearly_from_zero():
    by_step = factors(Cosine(warmup_epochs=2), 5, 10)
    assert by_step[:10] == pytest.approx([step / 10 for step in range(10)])
    assert by_step[10] == 1.0
