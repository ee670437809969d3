"""Few-shot learning without forgetting (Gidaris and Komodakis, 2018) on frozen features.

N samples, C classes, B base classes, V of them in the place of novel ones, S support images of each, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn
from ltrsys.classifiers.retrained.cosine import CosineClassifier, CosineConfig
from ltrsys.errors import DataError
from ltrsys.section import Count

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ltrsys.models.weight_generator import WeightGenerator


class FSLwFConfig(CosineConfig):
    """Few-shot learning without forgetting; `epochs` and `scale` are those of the cosine classifier it begins with."""

    base_min: Annotated[int, Field(ge=0)] = 20
    """A base class has more training images than this; the others have their weights generated."""
    episodes: Count = 1000
    """Steps in which the generator is trained, with as many query images of each class: up to `batch_size`, and one."""
    episode_novel: Count | None = None
    """V, how many base classes stand for novel ones in an episode; half of them if not given."""
    shots: Count = 5
    """S, how many images of each of them the generator is shown."""

    @model_validator(mode="after")
    def _leaves_queries(self) -> FSLwFConfig:
        if self.shots > self.base_min:
            raise ValueError(
                f"shots={self.shots} may be all images of a base class, which has more than base_min={self.base_min}, "
                "and none would be left to ask for: give fewer shots or a higher base_min"
            )
        return self


@CLASSIFIERS.register
@dataclass(frozen=True)
class FSLwF(Classifier[FSLwFConfig]):
    """Logits s cos(w_j, z): w_j is learned for classes of many images, and generated from the images of the others."""

    name = "fslwf"
    summary = "a cosine classifier of the frequent classes; the weights of the others generated from their images"
    source = "Gidaris and Komodakis, 2018"
    order = 70
    label, color, marker = "FSLwF", "#D55E00", "*"
    calibration_folds = 1
    trained_as_softmax = True
    Config = FSLwFConfig
    depends_on_seed = True
    has_weight_norms = False

    weight_CD: Tensor
    """Class directions, of length 1; zero for a class without a training image, which is never predicted."""
    scale: Tensor
    """s, []."""
    present_C: Tensor
    """The classes with a training image, bool [C]."""
    num_base: int
    """How many classes have learned weights."""

    @classmethod
    def fit(cls, context: FitContext, config: FSLwFConfig) -> Self:
        """Train a cosine classifier of the base classes; then, on episodes, the generator beside it; then generate.

        Without a class to generate for, it is the cosine classifier.

        Raises:
            DataError: Where there are too few base classes for an episode, or the training diverges.
        """
        import torch
        from torch.nn import functional

        train, device = context.train, context.device
        counts_C = train.class_counts
        base_C = counts_C > config.base_min
        base_B, novel_N = np.flatnonzero(base_C), np.flatnonzero((counts_C > 0) & ~base_C)
        num_novel = config.episode_novel or max(1, len(base_B) // 2)
        if len(novel_N) and len(base_B) <= num_novel:
            raise DataError(
                f"{cls.name}: {len(base_B)} classes have more than balance.fslwf.base_min={config.base_min} training "
                f"images, and an episode needs {num_novel + 1} (balance.fslwf.episode_novel and one more). "
                "Lower episode_novel or base_min."
            )
        cosine = CosineClassifier.fit_on(context, config, base_C, section=cls.name)
        weight_CD, scale = cosine.weight_CD, cosine.scale
        if len(novel_N):
            generator, base_BD, scale = _train_on_episodes(context, config, base_B, num_novel, cosine)
            weight_CD[torch.from_numpy(base_B).to(device)] = functional.normalize(base_BD, dim=1)
            for class_id in novel_N:
                features_SD, _ = train.rows(train.rows_of_class[class_id], device)
                weight_CD[class_id] = functional.normalize(generator.weights(features_SD[None], base_BD), dim=1)[0]
        present_C = torch.from_numpy(counts_C > 0).to(device)
        return cls(weight_CD * present_C[:, None], scale, present_C, len(base_B))

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]; minus infinity for classes without a training image."""
        import torch

        logits_NC = CosineClassifier(self.weight_CD, self.scale).scores(features_ND)
        return logits_NC.masked_fill(~self.present_C, -torch.inf)

    def params(self) -> dict[str, Any]:
        """Return the scale, and how many classes have learned weights."""
        return {"scale": float(self.scale), "base_classes": self.num_base}

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say how many base classes there are, and the scale."""
        return f"{params['base_classes']} base classes, scale {params['scale']:.3g}"

    def tensors(self) -> dict[str, Tensor]:
        """Return directions, scale, and which classes have images."""
        return {"weight": self.weight_CD, "scale": self.scale, "present": self.present_C}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from directions, scale, and which classes have images."""
        return cls(tensors["weight"], tensors["scale"], tensors["present"], int(params["base_classes"]))


def _train_on_episodes(
    context: FitContext, config: FSLwFConfig, base_B: NDArray[np.int64], num_novel: int, cosine: CosineClassifier
) -> tuple[WeightGenerator, Tensor, Tensor]:
    """Return a generator, the weights of the base classes, [B, D], and the scale, [], all learned together.

    In each episode, generated weights take the place of those of the classes that stand for novel ones. What is
    lowered is the cross-entropy of the query images over all base classes.
    """
    import torch
    from torch.nn import functional
    from torch.optim.lr_scheduler import CosineAnnealingLR

    from ltrsys.features.balanced_sgd import refuse_divergence
    from ltrsys.features.episodes import Episodes
    from ltrsys.features.row_reading import row_reader
    from ltrsys.models.weight_generator import WeightGenerator
    from ltrsys.progress import progress

    train, device = context.train, context.device
    place_C = torch.zeros(train.num_classes, dtype=torch.int64, device=device)
    place_C[torch.from_numpy(base_B).to(device)] = torch.arange(len(base_B), device=device)
    episodes = Episodes(
        [train.rows_of_class[class_id] for class_id in base_B],
        num_novel,
        config.shots,
        max(1, config.batch_size // len(base_B)),
        context.seed,
    )
    generator = WeightGenerator.start(len(base_B), train.num_features, seed=context.seed, device=device)
    base_BD = cosine.weight_CD[torch.from_numpy(base_B).to(device)].requires_grad_()
    scale = cosine.scale.clone().requires_grad_()
    parameters = [*generator.parameters(), base_BD, scale]
    optimizer = torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    schedule = CosineAnnealingLR(optimizer, T_max=config.episodes)
    reader = row_reader(train, device)
    with progress(FSLwF.label, config.episodes) as advance:
        for number in range(config.episodes):
            episode = episodes.episode(number)
            support_KD, _ = reader.rows(episode.support_VS.reshape(-1))
            queries_QD, labels_Q = reader.rows(episode.query_Q)
            novel_V = torch.from_numpy(episode.novel_V).to(device)
            hidden_B = torch.zeros(len(base_B), dtype=torch.bool, device=device).index_fill(0, novel_V, True)
            generated_VD = generator.weights(support_KD.unflatten(0, (-1, config.shots)), base_BD, hidden_B)
            weight_BD = functional.normalize(base_BD, dim=1)
            weight_BD = weight_BD.index_copy(0, novel_V, functional.normalize(generated_VD, dim=1))
            logits_QB = CosineClassifier(weight_BD, scale).scores(queries_QD)
            loss = functional.cross_entropy(logits_QB, place_C[labels_Q])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance()
    refuse_divergence(FSLwF.name, *parameters)
    return WeightGenerator(*(tensor.detach() for tensor in generator.parameters())), base_BD.detach(), scale.detach()
