"""Plans that the ranks of a node share."""

import os

import numpy as np
import pytest

from ltrsys.data.plan.cache import PlanCache
from ltrsys.errors import LtrsysError

INT32 = np.dtype(np.int32)


def counting(order):
    order[:] = np.arange(len(order))


@pytest.mark.parametrize("planted", [np.arange(3, dtype=np.int32), np.arange(100, dtype=np.int64), None])
def test_a_file_that_is_not_the_plan_is_made_anew(tmp_path, planted):
    cache = PlanCache(tmp_path / "plans", "run")
    if planted is None:
        (cache.folder / "0.npy").write_bytes(b"no array")
    else:
        np.save(cache.folder / "0.npy", planted)
    assert cache.get("0", 100, INT32, counting).tolist() == list(range(100))
    assert cache.get("0", 100, INT32, lambda order: pytest.fail("it is there")).tolist() == list(range(100))


def test_a_folder_that_others_may_write_is_not_believed(tmp_path):
    (tmp_path / "plans").mkdir()
    os.chmod(tmp_path / "plans", 0o777)
    with pytest.raises(LtrsysError, match="others may write here"):
        PlanCache(tmp_path / "plans", "run")


def test_runs_of_a_user_leave_one_another_s_plans_alone(tmp_path):
    one, other = PlanCache(tmp_path / "plans", "one"), PlanCache(tmp_path / "plans", "other")
    for epoch in range(4):
        other.get(str(epoch), 10, INT32, counting)
        one.get("0", 10, INT32, counting)
    assert sorted(path.name for path in (tmp_path / "plans").rglob("*.npy")) == ["0.npy", "2.npy", "3.npy"]


def test_plans_of_a_run_that_has_ended_go(tmp_path):
    ended, goes_on = PlanCache(tmp_path / "plans", "ended"), PlanCache(tmp_path / "plans", "goes_on")
    for cache in (ended, goes_on):
        cache.get("0", 10, INT32, counting)
    ended.close()
    PlanCache(tmp_path / "plans", "new")
    assert not ended.folder.exists()
    assert goes_on.folder.exists()
