"""Sampling by a power of the class counts (paper, equation 1): instance-balanced, square-root and class-balanced."""

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import ClassVar

from ltrsys.data.plan.samplers.base import SAMPLERS, SCALE, ClassWeights, Sampler
from ltrsys.section import Fraction

_DECIMAL = Context(prec=40)


class _Power(Sampler):
    """p_j proportional to n_j ** q."""

    source = "Kang et al., 2020, equation 1"

    fixed: ClassVar[Decimal]
    """The power q, where the sampler's name says it."""

    @property
    def exponent(self) -> Decimal:
        """The power q."""
        return self.fixed

    def weights_of_classes(self, class_counts: Sequence[int], epoch: int, num_epochs: int) -> list[int]:
        """Return n_j ** q on a common integer scale: exact for q = 0 and 1, to 24 decimals otherwise."""
        q = self.exponent
        if q == q.to_integral_value():
            power = {count: count ** int(q) for count in set(class_counts)}
        else:
            power = {
                count: int((_DECIMAL.power(Decimal(count), q) * SCALE).to_integral_value())
                for count in set(class_counts) - {0}
            }
        return [power[count] if count else 0 for count in class_counts]

    def class_weights(self, class_counts: list[int], epoch: int, num_epochs: int) -> ClassWeights:
        """Return the same weights at every epoch."""
        weights = self.weights_of_classes(class_counts, epoch, num_epochs)
        return ClassWeights(weights, [epoch * weight for weight in weights])


@SAMPLERS.register
class InstanceBalanced(_Power):
    """q = 1: every image once an epoch."""

    name = "instance"
    summary = "every image once an epoch: q = 1"
    order = 0
    fixed = Decimal(1)


@SAMPLERS.register
class SquareRoot(_Power):
    """q = 1/2."""

    name = "square_root"
    summary = "classes by the square root of their counts: q = 1/2"
    order = 10
    fixed = Decimal("0.5")


@SAMPLERS.register
class ClassBalanced(_Power):
    """q = 0: every class as often as any other."""

    name = "class_balanced"
    summary = "every class as often as any other: q = 0"
    order = 20
    fixed = Decimal(0)


@SAMPLERS.register
class Power(_Power):
    """Any q."""

    name = "power"
    summary = "classes by their counts to the power q"
    order = 30
    q: Fraction
    """The exponent."""

    @property
    def exponent(self) -> Decimal:
        """The power q."""
        return Decimal(repr(self.q))
