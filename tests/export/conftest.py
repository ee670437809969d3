"""Classifiers of the tests of classifiers."""

from tests.classifiers.conftest import _one_thread, long_tail, natural_tail

__all__ = ["_one_thread", "long_tail", "natural_tail"]
