"""Training on a real GPU against the losses of the CPU; tests/training/test_steps.py rehearses it on a CPU.

Nothing here has been run yet: the bounds are those of the CPU's precisions, and to be looked at on the first machine.
"""

import os
import signal

import numpy as np
import pytest
import torch

from ltrsys.config.reading import load_config
from ltrsys.data.config import AugmentationConfig, DataConfig, make_sampler
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import Batch, TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.errors import LtrsysError
from ltrsys.first_stage.trainer import Trainer, train
from ltrsys.training.losses.base import LOSSES
from ltrsys.training.memory import largest_that_fits
from ltrsys.training.mixup import mix
from ltrsys.world import World
from tests.training.steps import TOLERANCE, alone, losses, resumed_losses, watched_steps
from tests.trainings import config_writer, losses_of, read_metrics, start_processes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="training on a GPU needs one, and there is none"),
]

two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two ranks over NCCL need two GPUs")


@pytest.fixture(scope="module")
def plain():
    """The CPU's losses, by DDP in float32."""
    with alone("cpu") as device:
        return losses(device, engine="ddp")


@pytest.fixture
def gpu():
    with alone("cuda") as device:
        yield device


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
def test_twenty_steps_have_the_losses_of_the_cpu(gpu, plain, engine, precision, channels_last):
    found = losses(gpu, engine=engine, precision=precision, channels_last=channels_last)
    assert found == pytest.approx(plain, abs=TOLERANCE[precision])


@pytest.mark.parametrize("settings", [{"zero_stage": 1}, {"batch_norm": "sync"}, {"compile": True}], ids=str)
def test_other_ways_have_the_losses_of_the_cpu(gpu, plain, settings):
    assert losses(gpu, engine="deepspeed", **settings) == pytest.approx(plain, abs=TOLERANCE["float32"])


@pytest.mark.parametrize("precision", ["float32", "fp16"])
@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
def test_a_saved_run_goes_on(gpu, engine, precision, tmp_path):
    whole = losses(gpu, engine=engine, precision=precision)
    found = resumed_losses(gpu, tmp_path / "checkpoint.safetensors", engine=engine, precision=precision)
    assert found == pytest.approx(whole, abs=TOLERANCE["float32"])


@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
def test_no_step_waits_for_the_gpu(gpu, engine):
    def forbid(waiting: bool) -> None:
        torch.cuda.set_sync_debug_mode("error" if waiting else "default")

    assert watched_steps(gpu, forbid, engine=engine, clip_grad_norm=1.0) == 10


@pytest.mark.parametrize("settings", [{"engine": "ddp"}, {"engine": "deepspeed", "zero_stage": 1}], ids=str)
def test_deepspeed_s_fused_adam_has_torch_s_losses(gpu, settings):
    plain = losses(gpu, engine="ddp", optimizer={"kind": "adamw", "impl": "torch"})
    found = losses(gpu, optimizer={"kind": "adamw", "impl": "deepspeed"}, **settings)
    assert found == pytest.approx(plain, abs=TOLERANCE["float32"])


@pytest.mark.parametrize("kind", [name for name in LOSSES.names() if name != "lifted"])
def test_no_loss_makes_a_step_wait_for_the_gpu(gpu, kind):
    def forbid(waiting: bool) -> None:
        torch.cuda.set_sync_debug_mode("error" if waiting else "default")

    loss = {"kind": kind, "reweight": "effective_number"}
    assert watched_steps(gpu, forbid, engine="ddp", loss=loss) == 10


def test_mixing_images_does_not_wait_for_the_gpu(gpu):
    images = torch.randn(8, 3, 8, 8, device=gpu)
    batch = Batch(images, torch.arange(8, device=gpu), torch.arange(8), np.arange(8))
    expected, _ = mix(Batch(images.cpu(), torch.arange(8), torch.arange(8), np.arange(8)), alpha=0.4, seed=0, epoch=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found, _ = mix(batch, alpha=0.4, seed=0, epoch=0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), expected)


def on_a_gpu(tmp_path, shards, **changes):
    return config_writer(tmp_path, shards)(**{"train__device": "cuda", "train__epochs": 1} | changes)


def test_a_run_ends_with_about_the_cpu_s_losses(tmp_path, tiny_shards):
    found = {}
    for device in ("cpu", "cuda"):
        path = on_a_gpu(tmp_path, tiny_shards, name=device, train__device=device, train__tf32=False)
        train(load_config(path), World())
        found[device] = losses_of(load_config(path).run_folder)
    assert found["cuda"] == pytest.approx(found["cpu"], abs=0.02)  # the decoders differ by less than a grey level


def test_the_faster_layout_is_found_and_kept(tmp_path, tiny_shards, caplog):
    path = on_a_gpu(tmp_path, tiny_shards, train__channels_last="auto")
    with caplog.at_level("INFO", logger="ltrsys"):
        train(load_config(path), World())
    kept = load_config(load_config(path).run_folder / "config.yaml").train.channels_last
    assert f"train.channels_last=auto: {str(kept).lower()}, since 12 images forward and backward take" in caplog.text


def test_a_stopped_run_goes_on(tmp_path, tiny_shards):
    whole = on_a_gpu(tmp_path, tiny_shards, name="whole", train__epochs=2)
    train(load_config(whole), World())
    stopped = on_a_gpu(tmp_path, tiny_shards, name="stopped", train__epochs=2)
    with alone("cuda") as device:
        trainer = Trainer(load_config(stopped), World(), device)
        trainer.requests._own = 2  # Request.STOP: what SIGTERM asks
        with pytest.raises(LtrsysError, match="stopped by a signal"):
            trainer.fit()
        trainer.close()
    train(load_config(stopped), World())
    one, other = (losses_of(load_config(path).run_folder) for path in (whole, stopped))
    assert other == pytest.approx(one, abs=TOLERANCE["float32"])


def test_a_full_gpu_is_told_and_auto_finds_what_fits(tmp_path, tiny_shards):
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * 2**30 / total))
    try:
        changes = {"train__batch_size": 144, "data__image_size": 224, "data__resize": 224}
        with pytest.raises(LtrsysError, match=r"does not hold 144 images at once .* Give train\.micro_batch_size="):
            train(load_config(on_a_gpu(tmp_path, tiny_shards, train__micro_batch_size=144, **changes)), World())
        path = on_a_gpu(tmp_path, tiny_shards, name="auto", train__micro_batch_size="auto", **changes)
        train(load_config(path), World())
        assert len([line for line in read_metrics(load_config(path).run_folder) if "train/loss" in line]) == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert largest_that_fits(144, lambda size: True) == 144


def test_a_slow_consumer_gets_every_batch_whole(tiny_shards):
    """DALI's memory must not go back to DALI before the consumer's stream is done with it."""
    split = Dataset.open(tiny_shards).split("train")
    config = DataConfig(
        shards=tiny_shards,
        image_size=64,
        resize=64,
        threads=2,
        lanes=12,
        augmentation=AugmentationConfig(brightness=0.4),
    )
    planner = Planner(split, make_sampler(), seed=0, num_epochs=8, samples_per_epoch=4000, lanes=12)
    batching = Batching(20, 20, World(), 12)

    def sums(slow: bool) -> list[float]:
        loader = TrainLoader(
            split, config, planner=planner, batching=batching, seed=0, device=torch.device("cuda"), channels_last=True
        )
        found = []
        for epoch in range(8):
            for batch in loader.epoch(epoch):
                if slow:
                    torch.cuda._sleep(2_000_000)
                found.append((batch.images.double() * torch.arange(1, 65, device="cuda")).sum())
                del batch
        loader.close()
        return torch.stack(found).tolist()

    assert sums(slow=True) == sums(slow=False)


def test_what_the_device_waits_for_is_measured(tmp_path, tiny_shards):
    path = on_a_gpu(tmp_path, tiny_shards)
    train(load_config(path), World())
    shares = [line["data/stall_share"] for line in read_metrics(load_config(path).run_folder) if "train/loss" in line]
    assert all(0 <= share <= 1.01 for share in shares)
    assert np.isfinite(shares).all()


def train_on_a_gpu(rank, world_size, port, path, dies_after):
    """Be a rank over NCCL; the second is killed after so many steps."""
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    plain_step = Trainer._step

    def step(self, epoch, micro_batches):
        if rank == 1 and self.progress.step == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain_step(self, epoch, micro_batches)

    Trainer._step = step
    train(load_config(path), World.detect())


@two_gpus
def test_two_ranks_over_nccl_outlive_nothing_and_go_on(tmp_path, tiny_shards):
    path = on_a_gpu(tmp_path, tiny_shards, train__epochs=2, train__timeout_seconds=60.0)
    ranks = start_processes(train_on_a_gpu, 2, path, 4)
    for rank in ranks:
        rank.join(timeout=120)
    assert [rank.exitcode for rank in ranks] == [1, -signal.SIGKILL]
    ranks = start_processes(train_on_a_gpu, 2, path, None)
    for rank in ranks:
        rank.join(timeout=200)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    assert len(losses_of(load_config(path).run_folder)) == 6
