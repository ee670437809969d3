"""The layout of images and weights, where a device's speed decides it: a CPU stands in for the GPU."""

import json

import pytest
import torch
from safetensors.torch import load_file

from ltrsys.config.reading import load_config
from ltrsys.data.config import DataConfig
from ltrsys.first_stage.starting import with_layout
from ltrsys.first_stage.trainer import train
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training import layout
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.config import TrainConfig
from ltrsys.training.layout import STEPS, TURNS, WARM_UP, faster_in_channels_last
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World
from tests.first_stage.ranks import become_rank
from tests.first_stage.ranks import run as run_until
from tests.training.steps import alone
from tests.trainings import finish, losses_of, start_processes

CPU = torch.device("cpu")
DATA = DataConfig(shards="shards", image_size=8, resize=8)
FULL = "CUDA out of memory."


class Timed:
    """A network, and a clock that goes on by what a pass of its copies takes in each layout."""

    def __init__(self, *, last: float, usual: float) -> None:
        torch.manual_seed(0)
        self.network = build_network(ModelConfig(backbone="resnet10", stem="small"), 3)
        self.seconds = {True: last, False: usual}
        self.now, self.passes = 0.0, []
        self.disturbed = set()
        # a function and no method: a copy of the network would copy what a method belongs to
        self.network.register_forward_pre_hook(lambda network, inputs: self._begin(network, inputs))

    def _begin(self, network, inputs):
        images, kernels = inputs[0], network.backbone.layer2[0]
        (last,) = {
            tensor.is_contiguous(memory_format=torch.channels_last)
            for tensor in (images, kernels.conv1.weight, kernels.conv2.weight)
        }
        self.passes.append((last, tuple(images.shape), kernels.downsample[0].weight.stride()))
        torch.rand(5)  # as dropout draws
        if self.seconds[last] is None:
            raise torch.OutOfMemoryError(FULL)
        self.now += self.seconds[last] + (100.0 if len(self.passes) - 1 in self.disturbed else 0.0)

    def choose(self, world=World(), **settings):  # noqa: B008
        config = TrainConfig(**{"precision": "float32"} | settings)
        return faster_in_channels_last(self.network, config, DATA, world, 4, device=CPU, clock=lambda: self.now)


@pytest.mark.parametrize(
    ("last", "usual", "told"),
    [
        (0.01, 0.02, "true, since 4 images forward and backward take 10.0 ms in channels_last and 20.0 ms in torch's"),
        (0.9, 0.0301, "false, since 4 images forward and backward take 900.0 ms in channels_last and 30.1 ms in"),
        (0.5, 0.5, "true,"),
        (None, 0.5, "false, since 4 images forward and backward take more memory than there is in channels_last"),
        (0.5, None, "500.0 ms in channels_last and more memory than there is in torch's usual layout."),
        (None, None, "true, since"),
    ],
)
def test_the_faster_layout_that_fits_is_taken_and_told(last, usual, told, caplog):
    timed = Timed(last=last, usual=usual)
    with alone(), caplog.at_level("INFO", logger="ltrsys"):
        assert timed.choose() == told.startswith(("true", "500"))
    (line,) = caplog.messages
    assert line.startswith("train.channels_last=auto: ")
    assert told in line


def test_both_are_timed_in_turn_and_the_usual_one_by_kernels_that_never_were_in_the_other():
    timed = Timed(last=1.0, usual=2.0)
    strides = timed.network.backbone.layer2[0].downsample[0].weight.stride()
    with alone():
        timed.choose()
    assert len(timed.passes) == 2 * TURNS * (WARM_UP + STEPS)
    assert [last for last, *_ in timed.passes[:: WARM_UP + STEPS]] == [True, False] * TURNS
    assert {shape for _, shape, _ in timed.passes} == {(4, 3, 8, 8)}
    assert {found for last, _, found in timed.passes if not last} == {strides}


def test_neither_the_first_steps_nor_other_work_during_a_turn_decide():
    timed = Timed(last=1.0, usual=2.0)
    steps = WARM_UP + STEPS
    timed.disturbed = {*range(steps), *range(2 * steps, 2 * steps + WARM_UP)}  # the turns of channels_last are 0 and 2
    with alone():
        assert timed.choose()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("training", [False, True])
def test_timing_changes_nothing_to_the_bit(precision, training):
    timed = Timed(last=1.0, usual=2.0)
    network = timed.network.train(training)
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    with alone():
        timed.choose(precision=precision)
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name][0]), name
        assert tensor.stride() == before[name][1], name
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training == network.backbone.training == training


def choose_on_rank(rank, world_size, port, results):
    """Choose on a rank; the first one would find channels_last faster, the second one the usual layout."""
    become_rank(rank, world_size, port)
    timed = Timed(last=1.0 + rank, usual=1.5)
    with process_group(World.detect(), timeout_seconds=60):
        (results / f"{rank}.json").write_text(json.dumps([timed.choose(World.detect()), len(timed.passes)]))


@pytest.mark.distributed
def test_all_ranks_take_what_the_first_one_found(tmp_path):
    finish(start_processes(choose_on_rank, 2, tmp_path))
    (first, passes), (second, none) = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert (first, second) == (True, True)
    assert passes
    assert not none


@pytest.fixture
def timed_here(monkeypatch):
    """Have layouts timed on a CPU too; return how to say which is found faster, and how often one was timed."""
    timings = []
    really = layout._seconds_of_a_turn

    def say(*, last_is_faster):
        def seconds(network, memory_format, *settings):
            timings.append(really(network, memory_format, *settings))
            return 1.0 if (memory_format is torch.channels_last) == last_is_faster else 2.0

        monkeypatch.setattr(layout, "TIMED_ON", {"cpu"})
        monkeypatch.setattr(layout, "_seconds_of_a_turn", seconds)
        return timings

    return say


def kept(path):
    """Return what the run of a config has as its layout: in its folder, and in its checkpoint."""
    run = load_config(path).run_folder
    _, checkpoint = CheckpointFolder(run / "checkpoints", kept=1).newest()
    return load_config(run / "config.yaml").train.channels_last, checkpoint.progress.config["train"]["channels_last"]


def assert_same_bits(run, given):
    assert losses_of(run) == losses_of(given)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run, given))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.long
@pytest.mark.parametrize("last_is_faster", [False, True])
def test_a_run_keeps_what_was_found_and_is_the_same_as_with_it_given(write_config, trained, timed_here, last_is_faster):
    given = trained(train__channels_last=last_is_faster)
    timings = timed_here(last_is_faster=last_is_faster)
    path = write_config(train__channels_last="auto")
    run_until(path, stop_after=1)
    assert kept(path) == (last_is_faster, last_is_faster)
    assert len(timings) == 2 * TURNS
    timed_here(last_is_faster=not last_is_faster)
    train(load_config(path), World())
    assert kept(path) == (last_is_faster, last_is_faster)
    assert len(timings) == 2 * TURNS, "not timed again"
    assert_same_bits(load_config(path).run_folder, given)


@pytest.mark.long
def test_on_a_cpu_auto_is_channels_last_without_timing(write_config, trained, caplog):
    given = trained(train__channels_last=True)
    path = write_config(train__channels_last="auto")
    with caplog.at_level("INFO", logger="ltrsys"):
        train(load_config(path), World())
    assert "channels_last" not in caplog.text
    assert kept(path) == (True, True)
    assert_same_bits(load_config(path).run_folder, given)


@pytest.mark.parametrize(
    ("begun_with", "settings", "goes_on_with"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"channels_last": False}, False),
        (False, {"channels_last": True}, True),
        (True, {"zero_stage": 1}, False),
        (None, {"zero_stage": 1}, False),
        (None, {"optimizer": {"kind": "adamw", "impl": "deepspeed"}}, False),
        (None, {"channels_last": False}, False),
    ],
)
def test_what_a_run_was_begun_with_stays_where_it_can_and_nothing_else_is_said(
    write_config, timed_here, caplog, begun_with, settings, goes_on_with
):
    """Those of 0.2.0 were begun with true or false."""
    timings = timed_here(last_is_faster=True)
    changes = {f"train__{key}": value for key, value in ({"channels_last": "auto"} | settings).items()}
    config = load_config(write_config(train__engine="deepspeed", **changes))
    progress = Progress(dataset="", config={"train": {"channels_last": begun_with}}, micro_batch_size=4, world_size=1)
    checkpoint = None if begun_with is None else Checkpoint({}, {}, progress)
    network = build_network(ModelConfig(backbone="resnet10", stem="small"), 3)
    with alone():
        found = with_layout(config, World(), network, 4, checkpoint, CPU)
    assert found.train.channels_last is goes_on_with
    assert not timings
    assert not caplog.messages


def test_where_nothing_is_decided_yet_it_is_channels_last_if_it_can_be():
    assert TrainConfig().channels_last == "auto"
    assert TrainConfig().in_channels_last
    assert not TrainConfig(zero_stage=1).in_channels_last
    assert not TrainConfig(channels_last=False).in_channels_last
