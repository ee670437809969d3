import pytest
import torch
from safetensors.torch import load_file

from tests.trainings import config_writer, losses_of, read_metrics, run_ranks

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_shards, trained):
    """The same experiment by both engines on 1 and on 2 ranks, with gradient accumulation, and at ZeRO-1."""
    found = {}
    for ranks in (1, 2):
        found[f"ddp-{ranks}"] = trained(ranks)
        found[f"deepspeed-{ranks}"] = trained(ranks, train__engine="deepspeed")
    folder = tmp_path_factory.mktemp("engines")
    zero = config_writer(folder, tiny_shards)("zero", train__engine="deepspeed", train__zero_stage=1)
    run_ranks(2, zero, stop_after=1)
    found["zero"] = folder / "runs" / "zero"
    assert len(losses_of(found["zero"])) == 3
    run_ranks(2, zero)
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_deepspeed_s_losses_are_ddp_s(runs, ranks):
    ddp = losses_of(runs[f"ddp-{ranks}"])
    assert len(ddp) == 6
    assert losses_of(runs[f"deepspeed-{ranks}"]) == pytest.approx(ddp, abs=1e-5, rel=0)


@pytest.mark.parametrize("ranks", [1, 2])
def test_deepspeed_s_weights_are_ddp_s(runs, ranks):
    ddp = load_file(runs[f"ddp-{ranks}"] / "model.safetensors")
    deepspeed = load_file(runs[f"deepspeed-{ranks}"] / "model.safetensors")
    torch.testing.assert_close(deepspeed, ddp, atol=1e-5, rtol=1e-4)


def test_two_ranks_train_as_one_does(runs):
    """The same micro-batches on either; what rounding differs by then grows with every step."""
    one, two = losses_of(runs["ddp-1"]), losses_of(runs["ddp-2"])
    assert two[:3] == pytest.approx(one[:3], abs=1e-5, rel=0)
    assert two == pytest.approx(one, abs=2e-2)


def test_zero_1_resumed_from_its_checkpoint_trains_as_ddp_without_a_stop(runs):
    """It covers sharded momentum: saved from two ranks' parts, and dealt out to them again."""
    assert losses_of(runs["zero"]) == pytest.approx(losses_of(runs["ddp-2"]), abs=1e-5, rel=0)


def test_a_resumed_run_logs_each_step_once(runs):
    steps = [line["step"] for line in read_metrics(runs["zero"]) if "train/loss" in line]
    assert steps == list(range(1, 7))


def test_accuracies_do_not_depend_on_the_number_of_ranks_that_measure_them(runs):
    """120 images: 60 for each of two ranks. The weights differ by rounding, hence the two images of leeway."""
    one, two = (read_metrics(runs[f"ddp-{ranks}"])[-1]["val/all"] for ranks in (1, 2))
    assert one == pytest.approx(two, abs=100 * 2 / 120)
