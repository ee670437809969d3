from itertools import combinations

import numpy as np
import pytest
import torch

from ltrsys.errors import UsageError
from ltrsys.training.losses import lifted
from ltrsys.training.losses.lifted import Lifted
from tests.training.losses.cases import context, objective, outputs


def test_it_is_the_smooth_loss_of_the_paper_on_features_of_length_one():
    """Equation 4: half the mean, over positive pairs, of (log of the sum of exp(margin - D) over negatives + D)_+^2."""
    pytest.importorskip("pytorch_metric_learning")
    made = outputs()
    x, labels = made.features_BD.detach().numpy(), made.labels_B.numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    terms = []
    for i, j in combinations(range(len(x)), 2):
        if labels[i] == labels[j]:
            negatives = [distance[one, other] for one in (i, j) for other in np.flatnonzero(labels != labels[one])]
            terms.append(max(0, np.log(sum(np.exp(1 - far) for far in negatives)) + distance[i, j]) ** 2)
    expected = np.sum(terms) / (2 * len(terms))
    found = objective("lifted", weight=0.5)(made) - objective("cross_entropy")(made)
    assert found.item() == pytest.approx(0.5 * expected, rel=1e-6)


def test_where_the_library_is_missing_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(lifted, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs pytorch-metric-learning, .* pip install 'ltrsys\[lifted\]'"):
        Lifted().build_batch_term(context())


def test_images_of_as_many_classes_have_no_pairs():
    pytest.importorskip("pytorch_metric_learning")
    made = outputs(size=4)
    assert torch.equal(objective("lifted")(made), objective("cross_entropy")(made))
