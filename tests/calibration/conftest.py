from tests.classifiers.conftest import _one_thread, long_tail

__all__ = ["_one_thread", "long_tail"]
