"""Sums up the tree, and the finest group that is sure enough."""

import numpy as np
import pytest
import torch

from ltrsys.calibration.taxonomy import Taxonomy
from ltrsys.data.index.records import ClassRecord


def record(name: str, **taxonomy: str) -> ClassRecord:
    return ClassRecord(name=name, taxonomy=taxonomy)


CLASSES = [
    record("dunnock", kingdom="Animalia", family="Prunellidae", genus="Prunella", species="Prunella modularis"),
    record("accentor", kingdom="Animalia", family="Prunellidae", genus="Prunella", species="Prunella collaris"),
    record("self-heal", kingdom="Plantae", family="Lamiaceae", genus="Prunella", species="Prunella vulgaris"),
    record("mint", kingdom="Plantae", family="Lamiaceae", genus="Mentha"),
    record("wheatear", kingdom="Animalia", family="NA", genus="Oenanthe"),
    record("stone"),
]


@pytest.fixture
def tree() -> Taxonomy:
    return Taxonomy.of(CLASSES)


def test_a_genus_of_animals_and_one_of_plants_are_two_nodes(tree: Taxonomy) -> None:
    genera = [(node.name, node.classes) for node in tree.nodes_of("genus")]
    assert genera == [("Prunella", (0, 1)), ("Prunella", (2,)), ("Mentha", (3,)), ("Oenanthe", (4,))]
    animals, plants = (node.path for node in tree.nodes_of("genus")[:2])
    assert animals == (("kingdom", "Animalia"), ("family", "Prunellidae"), ("genus", "Prunella"))
    assert plants[0] == ("kingdom", "Plantae")


def test_ranks_stand_from_the_widest_to_the_narrowest(tree: Taxonomy) -> None:
    assert tree.ranks == ("kingdom", "family", "genus", "species")
    mixed = [
        record("a", genus="G", subgenus="S"),
        record("b", phylum="P", genus="H"),
        record("c", class_="C", genus="G"),
    ]
    ranks = Taxonomy.of(mixed).ranks
    assert all(ranks.index(rank) < ranks.index("genus") for rank in ("phylum", "class_"))
    assert ranks.index("genus") < ranks.index("subgenus")


@pytest.mark.parametrize("nothing", ["NA", "", " ", "na", "None", "nan", "N/A"])
def test_what_stands_for_nothing_is_no_node(nothing: str) -> None:
    tree = Taxonomy.of([record("a", kingdom="K", family=nothing, genus="G"), record("b", kingdom="K", family=nothing)])
    assert tree.nodes_of("family") == ()
    assert "family" not in tree.ranks
    assert tree.nodes_of("genus")[0].path == (("kingdom", "K"), ("genus", "G"))


def test_sums_are_those_of_the_classes_below(tree: Taxonomy) -> None:
    probabilities = torch.rand((50, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(dim=1)
    found = tree.sums(probabilities)
    assert list(found) == ["kingdom", "family", "genus", "species"]
    for rank, sums in found.items():
        nodes = tree.nodes_of(rank)
        expected = np.stack([probabilities.numpy()[:, list(node.classes)].sum(axis=1) for node in nodes], axis=1)
        np.testing.assert_allclose(sums.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(found["kingdom"].sum(dim=1), 1 - probabilities[:, 5], rtol=1e-12)


def finest(tree: Taxonomy, probabilities: list[float], threshold: float) -> tuple[str | None, str, float] | None:
    found = tree.finest(torch.tensor(probabilities, dtype=torch.float64), threshold)
    return found and (found.node.rank, found.node.name, round(found.probability, 9))


def test_the_finest_ancestor_of_the_top_class_that_is_sure_enough(tree: Taxonomy) -> None:
    unsure = [0.4, 0.35, 0.1, 0.05, 0.06, 0.04]
    assert finest(tree, unsure, 0.3) == (None, "dunnock", 0.4)
    assert finest(tree, unsure, 0.41) == ("genus", "Prunella", 0.75)
    assert finest(tree, unsure, 0.75) == ("genus", "Prunella", 0.75)
    assert finest(tree, unsure, 0.8) == ("kingdom", "Animalia", 0.81)
    assert finest(tree, unsure, 0.82) is None
    assert finest(tree, [0.05, 0.05, 0.3, 0.35, 0.2, 0.05], 0.6) == ("family", "Lamiaceae", 0.65)
    assert finest(tree, [0.3, 0.1, 0.1, 0.1, 0.4, 0.0], 0.5) == ("kingdom", "Animalia", 0.8), "family is not known"


def test_a_class_without_taxonomy_is_itself_or_not_sure(tree: Taxonomy) -> None:
    assert finest(tree, [0.1, 0.1, 0.0, 0.0, 0.0, 0.8], 0.8) == (None, "stone", 0.8)
    assert finest(tree, [0.1, 0.1, 0.0, 0.0, 0.0, 0.8], 0.9) is None
    assert tree.known
    assert not Taxonomy.of([record("a"), record("a")]).known
    assert Taxonomy.of([record("a"), record("a")]).sums(torch.ones(2, 2)) == {}


def test_two_classes_of_one_species_are_its_leaves() -> None:
    tree = Taxonomy.of([record("egg", species="S"), record("adult", species="S")])
    assert finest(tree, [0.45, 0.55], 0.5) == (None, "adult", 0.55)
    assert finest(tree, [0.45, 0.55], 1.0) == ("species", "S", 1.0)


def test_a_sum_that_is_whole_but_for_rounding_is_whole() -> None:
    tree = Taxonomy.of([record(str(number), kingdom="K") for number in range(10)])
    assert sum([0.1] * 10) < 1
    assert finest(tree, [0.1] * 10, 1.0) == ("kingdom", "K", 1.0)


def test_equally_probable_classes_are_told_by_their_order(tree: Taxonomy) -> None:
    assert finest(tree, [0.25, 0.0, 0.25, 0.25, 0.25, 0.0], 0.2) == (None, "dunnock", 0.25)


def test_one_class_is_always_sure() -> None:
    assert finest(Taxonomy.of([record("only")]), [1.0], 1.0) == (None, "only", 1.0)
