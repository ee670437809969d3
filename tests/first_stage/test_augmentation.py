"""A training with every augmentation on is exact: after a stop, and on two ranks."""

import pytest
import torch

from ltrsys.config.reading import load_config
from ltrsys.errors import UsageError
from ltrsys.first_stage.trainer import train
from ltrsys.training.checkpoints.checkpoint import Checkpoint
from ltrsys.world import World
from tests.trainings import losses_of, run_on_one_thread, run_ranks

pytestmark = pytest.mark.long

EVERYTHING = {
    "data__interpolation": "bicubic",
    "data__progressive": {"from_size": 8, "until_epoch": 1, "step": 4},
    "data__augmentation": {
        "min_area": 0.7,
        "brightness": 0.2,
        "policy": {"kind": "rand_augment"},
        "blur": {"probability": 0.5},
        "erasing": {"probability": 0.5},
    },
    "train__mixup": {"alpha": 0.4},
    "train__cutmix": {"alpha": 1.0},
}


def assert_equal_bits(run, straight):
    assert losses_of(run) == losses_of(straight)
    ours, theirs = (
        Checkpoint.load(folder / "checkpoints" / "step-000000006.safetensors").network for folder in (run, straight)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_run_that_goes_on_ends_with_the_bits_of_one_that_never_stopped(stop_after, trained, copied):
    path = copied(stop_after=stop_after, **EVERYTHING)
    run_on_one_thread(path, None)
    assert_equal_bits(load_config(path).run_folder, trained(**EVERYTHING))


def test_so_does_one_that_gets_its_pixels_in_half_the_size(trained, copied):
    changes = {**EVERYTHING, "train__precision": "bf16", "data__pixels": "float16"}
    path = copied(stop_after=4, **changes)
    run_on_one_thread(path, None)
    straight = trained(**changes)
    assert_equal_bits(load_config(path).run_folder, straight)
    whole = losses_of(trained(**{**changes, "data__pixels": "float32"}))
    assert losses_of(straight)[0] == pytest.approx(whole[0], rel=2e-3), "before the first step they differ by rounding"


@pytest.mark.distributed
def test_so_does_one_of_two_ranks(trained, copied):
    path = copied(ranks=2, stop_after=1, **EVERYTHING)
    run_ranks(2, path)
    assert_equal_bits(load_config(path).run_folder, trained(2, **EVERYTHING))


@pytest.mark.distributed
def test_two_ranks_see_what_one_sees(trained):
    one, two = trained(**EVERYTHING), trained(2, **EVERYTHING)
    assert losses_of(two) == pytest.approx(losses_of(one), rel=2e-3)


def test_each_of_them_changes_the_losses(trained):
    plain = losses_of(trained())
    for changes in ({key: value} for key, value in EVERYTHING.items()):
        assert losses_of(trained(**changes)) != plain


def test_a_network_that_does_not_take_the_small_images_is_refused_before_anything_is_started(write_config):
    sizes = {"from_size": 8, "until_epoch": 1}
    path = write_config(
        data__image_size=96, data__resize=96, data__progressive=sizes, model={"backbone": "inception_v3"}
    )
    with pytest.raises(UsageError, match=r"inception_v3 does not take images of 8 pixels, which data\.progressive"):
        train(load_config(path), World.detect())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.interpolation=nearest"], r"data\.interpolation"),
        (["data.pixels=float16"], r"data\.pixels=float16 loses digits that train\.precision=float32 computes with"),
        (["data.augmentation.policy.kind=auto"], r"data\.augmentation\.policy\.kind"),
        (["data.augmentation.policy.kind=rand_augment", "data.augmentation.policy.magnitude=31"], r"magnitude"),
        (
            ["data.augmentation.policy.magnitude=10"],
            r"magnitude=10 is rand_augment's, and kind=none does not heed it: give "
            r"data\.augmentation\.policy\.kind=rand_augment, or leave it out",
        ),
        (
            ["data.augmentation.policy.kind=trivial_augment", "data.augmentation.policy.operations=1"],
            r"operations=1 is rand_augment's, and kind=trivial_augment does not heed it",
        ),
        (["data.augmentation.erasing.probability=1.5"], r"erasing\.probability.*less than or equal to 1"),
        (["data.augmentation.erasing.min_area=0.5"], r"min_area=0\.5 is more than max_area=0\.33: lower the first"),
        (["data.augmentation.blur.min_sigma=3.0"], r"min_sigma=3 is more than max_sigma=2: lower the first"),
        (["data.augmentation.blur.min_sigma=0.0"], r"blur\.min_sigma.*greater than 0"),
        (
            ["data.progressive={from_size: 12, until_epoch: 1}"],
            r"progressive\.from_size=12 is not below data\.image_size=12, which it grows to",
        ),
        (
            ["data.progressive={from_size: 8, until_epoch: 2}"],
            r"data\.progressive\.until_epoch=2 leaves no epoch of full size: with train\.epochs=2, give 1 or less",
        ),
        (["train.cutmix.alpha=-0.2"], r"train\.cutmix\.alpha.*greater than or equal to 0"),
        (["train.loss.kind=lifted", "train.cutmix.alpha=1.0"], r"cutmix\.alpha=1 makes images of two classes"),
    ],
)
def test_what_does_not_go_together_is_refused_while_the_config_is_read(overrides, message, write_config):
    with pytest.raises(UsageError, match=message) as refused:
        load_config(write_config(), overrides)
    assert len(str(refused.value).splitlines()) == 1
