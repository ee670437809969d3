"""LIFT's recipe (Shi et al., 2024) on a small vision transformer: adapters, a head of class means, adjusted logits."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from ltrsys.commands.training.balance import balance_run
from ltrsys.config.reading import load_config
from ltrsys.errors import UsageError
from ltrsys.first_stage import initial_means
from ltrsys.first_stage.trainer import train
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.models.stored.weights import load_network
from ltrsys.training.checkpoints.checkpoint import Checkpoint
from ltrsys.world import World
from tests.first_stage.test_learned_losses import assert_equal_bits, last
from tests.trainings import losses_of, run_on_one_thread, run_ranks

BACKBONE = "timm/vit_tiny_patch16_224"
STOPPED = "step-000000004.safetensors"
"""After the first step of the second of two epochs: dropout and drop path go on from the generator as it was."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights to start from; no trained ones can be fetched where tests run."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        backbone = build_network(ModelConfig(backbone=BACKBONE, input_size=32), 2).backbone
    path = tmp_path_factory.mktemp("weights") / "vit_tiny.safetensors"
    save_file(backbone.state_dict(), path)
    return path


@pytest.fixture
def lift(weights):
    """What the recipe changes of the tiny experiment."""
    return {
        "data__image_size": 32,
        "data__resize": 32,
        "data__augmentation": {"min_area": 0.7, "flip": False},
        "model__backbone": BACKBONE,
        "model__stem": "imagenet",
        "model__pretrained": str(weights),
        "model__head": "cosine",
        "model__drop_path": 0.2,
        "model__lora": {"rank": 4, "alpha": 8.0, "dropout": 0.1},
        "train__head_start": "class_means",
        "train__loss": {"kind": "logit_adjusted"},
        "train__checkpoint_every_steps": 1,
        "train__keep_checkpoints": 10,
    }


def stop_in_the_middle(path):
    """Leave of a finished run what was there when it had made its fourth step."""
    run = load_config(path).run_folder
    (run / "model.safetensors").unlink()
    for checkpoint in (run / "checkpoints").iterdir():
        if checkpoint.name > STOPPED or checkpoint.name == "best.safetensors":
            checkpoint.unlink()
    return run


@pytest.mark.long
def test_adapters_and_head_alone_are_trained_and_checkpointed(trained, lift, weights):
    run = trained(**lift)
    checkpoint, begun = last(run), load_file(weights)
    adapters = {name for name in checkpoint.network if "lora" in name}
    assert len(adapters) == 12 * 2 * 2
    learned = {name.removesuffix(".momentum_buffer") for name in checkpoint.optimizer}
    assert learned == adapters | {"classifier.weight", "classifier.scale"}
    for name, value in begun.items():
        place = (
            name if f"backbone.{name}" in checkpoint.network else name.replace(".attn.qkv.", ".attn.qkv.base_layer.")
        )
        place = (
            place
            if f"backbone.{place}" in checkpoint.network
            else name.replace(".attn.proj.", ".attn.proj.base_layer.")
        )
        assert torch.equal(checkpoint.network[f"backbone.{place}"], value), name
    assert all(checkpoint.network[name].any() for name in adapters if "lora_B" in name)
    losses = losses_of(run)
    assert losses[-1] < losses[0]


@pytest.mark.long
def test_its_model_is_the_plain_network_that_computes_what_was_trained(trained, lift):
    run = trained(**lift)
    config = load_config(run / "config.yaml")
    network = load_network(config.model, 12, run / "model.safetensors").eval()
    assert network.state_dict().keys() == build_network(ModelConfig(
        backbone=BACKBONE, input_size=32, head="cosine"), 12).state_dict().keys()  # fmt: skip
    trained_on = last(run).network
    layer = "backbone.blocks.7.attn.proj"
    added = 2 * trained_on[f"{layer}.lora_B.default.weight"] @ trained_on[f"{layer}.lora_A.default.weight"]
    merged = network.get_submodule(layer).weight
    torch.testing.assert_close(merged.detach(), trained_on[f"{layer}.base_layer.weight"] + added)
    assert added.any()


@pytest.mark.long
def test_it_is_balanced_as_any_other_run(copied, lift):
    path = copied(**lift)
    run = load_config(path).run_folder
    balance_run(run, [], "joint,ncm,crt", as_json=False)
    results = json.loads((run / "results.json").read_text())
    assert {line["classifier"] for line in results["results"]} == {"joint", "ncm", "crt"}


@pytest.mark.long
def test_a_run_that_goes_on_within_an_epoch_ends_with_the_same_bits(trained, copied, lift, monkeypatch):
    def must_not_be_called(*arguments, **options):
        raise AssertionError("class means are measured again")

    straight, path = trained(**lift), copied(**lift)
    run = stop_in_the_middle(path)
    monkeypatch.setattr(initial_means, "means_of_images", must_not_be_called)
    run_on_one_thread(path, None)
    assert_equal_bits(run, straight)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.long
def test_so_does_one_of_averaged_weights_and_rates_by_layer(trained, copied, lift):
    settings = {
        **lift,
        "train__trainable": "norms",
        "train__ema_decay": 0.9,
        "train__optimizer": {"kind": "adamw", "lr": 0.001, "layer_decay": 0.8},
    }
    straight, path = trained(**settings), copied(**settings)
    run = stop_in_the_middle(path)
    run_on_one_thread(path, None)
    assert_equal_bits(run, straight)
    average = last(run).average
    layer = "backbone.blocks.7.attn.proj"
    added = 2 * average[f"{layer}.lora_B.default.weight"] @ average[f"{layer}.lora_A.default.weight"]
    merged = load_file(run / "model.safetensors")[f"{layer}.weight"]
    torch.testing.assert_close(merged, average[f"{layer}.base_layer.weight"] + added)
    assert added.any()


@pytest.mark.long
@pytest.mark.distributed
@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
def test_so_does_one_of_two_ranks_with_either_engine(engine, trained, copied, lift):
    settings = {**lift, "train__engine": engine}
    straight, path = trained(2, **settings), copied(ranks=2, **settings)
    run = stop_in_the_middle(path)
    run_ranks(2, path)
    assert_equal_bits(run, straight)
    first = Checkpoint.load(run / "checkpoints" / "step-000000001.safetensors").network
    one = Checkpoint.load(trained(**lift) / "checkpoints" / "step-000000001.safetensors").network
    name = "backbone.blocks.0.attn.qkv.lora_A.default.weight"
    torch.testing.assert_close(first[name], one[name], rtol=1e-2, atol=1e-4)
    cosine = functional.cosine_similarity(first["classifier.weight"], one["classifier.weight"])
    assert cosine.min() > 0.999


def test_a_network_without_attention_layers_is_refused_before_anything_is_written(write_config, lift):
    config = load_config(write_config(**lift), ["model.backbone=resnet10", "model.drop_path=0"])
    with pytest.raises(UsageError, match=r"^model\.lora adapts .* model\.backbone=resnet10 has none\. Give a vision"):
        train(config, World())
    assert not config.run_folder.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.pretrained=false"],
            r"model\.lora would freeze random weights: give train\.from_run, model\.pretrained",
        ),
        (["train.trainable=classifier"], r"train\.trainable=classifier and model\.lora both say what is frozen: leave"),
        (["train.freeze_stages=1"], r"train\.freeze_stages=1 and model\.lora both say what is frozen: leave one"),
        (["model.lora.rank=0"], r"`model\.lora\.rank`"),
        (["model.lora.layers=[]"], r"`model\.lora\.layers`"),
        (["model.drop_path=1"], r"`model\.drop_path`"),
    ],
)
def test_what_does_not_go_together_is_one_line(write_config, lift, overrides, message):
    with pytest.raises(UsageError, match=message) as raised:
        load_config(write_config(**lift), overrides)
    assert "\n" not in str(raised.value)


def test_norms_may_be_trained_beside_adapters(write_config, lift):
    assert load_config(write_config(**lift), ["train.trainable=norms"]).train.trainable == "norms"
