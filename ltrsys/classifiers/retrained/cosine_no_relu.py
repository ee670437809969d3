"""A cosine classifier on features before the last ReLU (paper, appendix B.7 and Table 12)."""

from dataclasses import dataclass

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.classifiers.retrained.cosine import CosineClassifier


@CLASSIFIERS.register
@dataclass(frozen=True)
class CosineBeforeLastReLU(CosineClassifier):
    """Logits s cos(w, z) as `CosineClassifier`, of the features z without the last ReLU, which may be negative."""

    name = "cosine_no_relu"
    summary = "a fresh cosine classifier on features before the last ReLU, trained with class-balanced sampling"
    source = "Kang et al., 2020, appendix B.7 and Table 12; Gidaris and Komodakis, 2018, section 3.2"
    order = 61
    label, color, marker = "Cosine, no ReLU", "#117733", "H"
    features = "no_relu"
