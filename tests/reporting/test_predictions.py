import numpy as np
import pytest

from ltrsys.reporting.predictions import MOST_IMAGES, chosen_images

SHOTS = np.repeat(["many", "medium", "few"], 300)


def outcomes(right_KN: np.ndarray) -> np.ndarray:
    return np.where(right_KN.all(axis=0), "all", np.where(right_KN.any(axis=0), "some", "none"))


def counted(rows: np.ndarray, right_KN: np.ndarray) -> dict[tuple[str, str], int]:
    groups = list(zip(SHOTS[rows].tolist(), outcomes(right_KN)[rows].tolist(), strict=True))
    return {group: groups.count(group) for group in dict.fromkeys(groups)}


def test_every_group_of_shot_and_outcome_has_its_share() -> None:
    right_KN = np.stack([np.arange(900) % 3 > 0, np.arange(900) % 3 > 1])
    rows = chosen_images(SHOTS, right_KN, seed=0)
    assert len(set(rows.tolist())) == len(rows) == MOST_IMAGES
    counts = counted(rows, right_KN)
    assert list(counts) == [
        (shot, outcome) for shot in ("few", "medium", "many") for outcome in ("none", "some", "all")
    ]
    assert set(counts.values()) == {22, 23}


def test_what_a_small_group_leaves_free_goes_to_the_others() -> None:
    right_KN = np.ones((2, 900), dtype=bool)
    right_KN[:, [0, 300, 301]] = False
    counts = counted(chosen_images(SHOTS, right_KN, seed=0), right_KN)
    assert counts == {
        ("few", "all"): 66, ("medium", "none"): 2, ("medium", "all"): 66, ("many", "none"): 1, ("many", "all"): 65,
    }  # fmt: skip


def test_a_small_split_is_shown_whole() -> None:
    right_KN = np.zeros((1, 5), dtype=bool)
    assert chosen_images(np.array(["few"] * 5), right_KN, seed=0).tolist() == [0, 1, 2, 3, 4]
    assert chosen_images(np.array([], dtype=str), np.zeros((1, 0), dtype=bool), seed=0).tolist() == []


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides(seed: int) -> None:
    right_KN = np.arange(900)[None] % 2 > 0
    rows = chosen_images(SHOTS, right_KN, seed)
    assert rows.tolist() == chosen_images(SHOTS, right_KN, seed).tolist()
    assert rows.tolist() != chosen_images(SHOTS, right_KN, seed + 1).tolist()
