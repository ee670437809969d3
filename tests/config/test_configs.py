from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ltrsys.config.changes import differences
from ltrsys.config.reading import load_config
from ltrsys.models.image_size import build_without_memory, check_image_size
from ltrsys.models.trainable.freezing import freeze
from ltrsys.models.trainable.lora import add_adapters, check_adapters
from ltrsys.section import MayChange
from ltrsys.studies.figures.base import figure_of
from ltrsys.studies.study import OpenStudy

CONFIGS = Path(__file__).parent.parent.parent / "configs"
SWEEPS = sorted(CONFIGS.glob("sweeps/*.yaml"))
RECIPES = sorted(set(CONFIGS.glob("*/*.yaml")) - set(SWEEPS))
STUDIES = sorted(CONFIGS.glob("*/studies/*.yaml"))
OLTR = [path for path in RECIPES if "oltr" in path.stem]
LIFT = [path for path in RECIPES if path.stem.startswith("lift")]
OTHERS = [*OLTR, *LIFT]
"""Of other methods, with settings of their own."""
EXPERIMENTS = [path for path in RECIPES if path.stem not in ("base", "debug") and path not in OTHERS]


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def study_of(path: Path) -> str:
    return f"{path.parent.parent.name}/{path.stem}"


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_loads(path):
    load_config(path)


@pytest.mark.parametrize("path", STUDIES, ids=study_of)
@pytest.mark.long
def test_a_study_is_read_and_says_what_it_is(path):
    study = OpenStudy.read(path)
    assert study.trainings
    assert figure_of(study) is not None or not path.stem.startswith("figure")
    assert study.study.source.startswith("Kang et al., 2020, ")
    first, *_ = path.read_text().splitlines()
    assert path.stem.replace("_", " ").capitalize() in first
    assert ("twin of the paper's" in first) == (path.parent.parent.name in ("glyphs", "digits"))
    command = f"# ltrsys study {'show' if path.stem == 'figure_3' else 'run'} {path.relative_to(CONFIGS.parent)}"
    assert any(line.startswith(command) for line in path.read_text().splitlines())


@pytest.mark.parametrize("path", STUDIES, ids=study_of)
@pytest.mark.long
def test_the_settings_of_a_study_s_rows_are_known(path):
    study = OpenStudy.read(path)
    for row in study.study.rows:
        for training in study.trainings:
            if training.key == row.run:
                study.config_of(row, training)


@pytest.mark.long
def test_the_trainings_of_one_folder_are_the_same_in_all_studies_of_a_dataset():
    made = {}
    for path in STUDIES:
        for training in OpenStudy.read(path).trainings:
            other = made.setdefault((path.parent, training.run.path), training)
            assert list(differences(other.config, training.config, MayChange.ON_RESUME)) == [], path


def test_table_1_retrains_for_ten_epochs_what_it_says():
    study = OpenStudy.read(CONFIGS / "imagenet_lt" / "studies" / "table_1.yaml")
    assert [row.label for row in study.study.rows] == ["B+C", "B+C (0.1 lr)", "LB+C", "C (cRT)"]
    first, *retrained = study.trainings
    assert [training.config.train.trainable for training in retrained] == ["all", "all", "last_block"]
    assert [training.config.train.optimizer.backbone_lr for training in retrained] == [None, 0.02, None]
    for training in retrained:
        train = training.config.train
        assert (train.epochs, train.optimizer.lr, train.reset_classifier) == (10, 0.2, True)
        assert train.schedule.kind == "cosine"
        assert training.config.data.sampler.kind == "class_balanced"
        assert train.from_run == first.run.path
    crt = first.config.balance.of("crt")
    assert (crt.epochs, crt.lr) == (10, 0.2)


@pytest.mark.long
def test_studies_of_the_same_training_share_its_run():
    for dataset in ("glyphs", "imagenet_lt"):
        runs = {}
        for path in (path for path in STUDIES if path.parent.parent.name == dataset):
            for training in OpenStudy.read(path).trainings:
                same = flatten(training.config.dump())
                # what the second stage does with it, and how it is called, may differ
                same = {key: same[key] for key in same if not key.startswith("balance.") and key != "name"}
                runs.setdefault(str(sorted(same.items())), set()).add(training.run.path)
        assert all(len(paths) == 1 for paths in runs.values()), runs.values()


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_states_its_command_or_how_its_shards_are_made(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = f"deepspeed launchers/train.py --config {path.relative_to(CONFIGS.parent)}"
    stated = any(command.split()[-1] in line for line in header) or any("ltrsys shards" in line for line in header)
    assert stated, path


@pytest.mark.parametrize("path", [path for path in EXPERIMENTS if (path.parent / "base.yaml").exists()], ids=name_of)
def test_experiments_differ_only_by_what_the_paper_changes(path):
    own = flatten(load_config(path).dump())
    base = flatten(load_config(path.parent / "base.yaml").dump())
    differing = {key for key in own if own[key] != base.get(key)}
    own_of_sampler = {"data.sampler.kind", "data.sampler.samples_per_draw"}
    own_of_fslwf = {"data.sampler.base_min", "model.head", "balance.classifiers"} if "fslwf" in path.stem else set()
    assert differing <= {"name", "model.backbone", "train.epochs", *own_of_sampler, *own_of_fslwf}


def test_experiments_have_names_of_their_own():
    names = [load_config(path).name for path in RECIPES]
    assert len(names) == len(set(names))


def test_every_dataset_of_the_paper_has_a_twin_that_runs_in_a_minute():
    for base in CONFIGS.rglob("base.yaml"):
        twin = load_config(base.parent / "debug.yaml")
        assert str(twin.data.shards) == "data/digits"
        assert twin.model.backbone == "resnet10"


def test_every_first_stage_of_the_paper_s_tables_is_there():
    have = {name_of(path) for path in EXPERIMENTS}
    imagenet_lt = {"resnet10", "resnet10_fslwf", "resnext50", "resnext152"}  # Table 2
    imagenet_lt |= {f"resnext50_{kind}" for kind in ("class_balanced", "square_root", "progressive")}  # Table 5
    inaturalist = {  # Tables 3 and 8, and the larger network
        f"{backbone}_{epochs}"
        for backbone in ("resnet50", "resnet101", "resnet152", "resnext152")
        for epochs in (90, 200)
    }
    wanted = {f"imagenet_lt/{name}" for name in imagenet_lt} | {f"inaturalist_2018/{name}" for name in inaturalist}
    assert wanted | {"places_lt/resnet152"} <= have  # Table 4


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [
        ("imagenet_lt/resnext50", "train.optimizer.weight_decay", 5e-4),
        ("imagenet_lt/resnext50", "data.augmentation.brightness", 0.4),
        ("imagenet_lt/resnext50", "train.batch_size", 512),
        ("imagenet_lt/resnext50", "train.schedule.step", "epoch"),
        ("imagenet_lt/resnext50", "balance.crt.epochs", 10),
        ("imagenet_lt/resnet10_fslwf", "data.sampler.base_min", 20),
        ("imagenet_lt/resnet10_fslwf", "balance.fslwf.base_min", 20),
        ("imagenet_lt/resnext50_class_balanced", "data.sampler.samples_per_draw", 4),
        ("inaturalist_2018/resnet152_200", "train.optimizer.weight_decay", 1e-4),
        ("inaturalist_2018/resnet152_200", "data.augmentation.brightness", 0.0),
        ("inaturalist_2018/resnet152_200", "data.mean", [0.466, 0.471, 0.380]),
        ("inaturalist_2018/resnet152_200", "balance.crt.epochs", 30),
        ("inaturalist_2018/resnet152_200", "balance.tau.select_on", "train"),
        ("imagenet_lt/resnet10_oltr_stage1", "train.batch_size", 128),
        ("imagenet_lt/resnet10_oltr_stage1", "train.epochs", 30),
        ("imagenet_lt/resnet10_oltr_stage1", "train.schedule.every", 10),
        ("imagenet_lt/resnet10_oltr_stage1", "train.optimizer.lr", 0.1),
        ("imagenet_lt/resnet10_oltr_stage1", "model.head", "linear"),
        ("imagenet_lt/resnet10_oltr", "train.batch_size", 128),
        ("imagenet_lt/resnet10_oltr", "train.epochs", 60),
        ("imagenet_lt/resnet10_oltr", "train.schedule.every", 20),
        ("imagenet_lt/resnet10_oltr", "train.optimizer.lr", 0.1),
        ("imagenet_lt/resnet10_oltr", "train.optimizer.backbone_lr", 0.01),
        ("imagenet_lt/resnet10_oltr", "train.optimizer.weight_decay", 5e-4),
        ("imagenet_lt/resnet10_oltr", "train.loss.lr", 0.01),
        ("imagenet_lt/resnet10_oltr", "data.sampler.samples_per_draw", 4),
        ("imagenet_lt/resnet10_oltr_on_ours", "train.from_run", "runs/imagenet_lt_resnet10"),
        ("imagenet_lt/resnet10_oltr_on_ours", "model.feature_layer", None),
        ("inaturalist_2018/lift_vit_b16", "train.batch_size", 128),
        ("inaturalist_2018/lift_vit_b16", "train.epochs", 20),
        ("inaturalist_2018/lift_vit_b16", "train.optimizer.lr", 0.01),
        ("inaturalist_2018/lift_vit_b16", "train.optimizer.weight_decay", 5e-4),
        ("inaturalist_2018/lift_vit_b16", "train.loss.tau", 1.0),
        ("inaturalist_2018/lift_vit_b16", "data.image_size", 224),
        ("inaturalist_2018/lift_vit_b16", "data.mean", [0.48145466, 0.4578275, 0.40821073]),
        ("places_lt/resnet152", "train.batch_size", 256),
        ("places_lt/resnet152", "train.optimizer.lr", 0.1),
        ("places_lt/resnet152", "train.optimizer.backbone_lr", 0.01),
    ],
)
def test_hyper_parameters_are_the_paper_s(recipe, key, value):
    assert flatten(load_config(CONFIGS / f"{recipe}.yaml").dump())[key] == value


def test_recipes_are_plain_yaml_so_that_other_tools_can_read_them():
    for path in RECIPES:
        assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("path", [path for path in OLTR if "stage1" not in path.stem], ids=name_of)
@pytest.mark.long
def test_oltr_s_second_stages_begin_where_a_recipe_of_the_same_network_ends(path):
    second = load_config(path)
    ends = {load_config(other).run_folder: load_config(other) for other in RECIPES}
    first = ends[second.train.from_run]
    same = ("backbone", "stem", "feature_layer")
    assert [getattr(first.model, key) for key in same] == [getattr(second.model, key) for key in same]
    assert first.model.head == "linear"
    assert first.data.shards == second.data.shards
    check_image_size(second.model, second.data.image_size)


@pytest.mark.parametrize("path", LIFT, ids=name_of)
@pytest.mark.long
def test_lift_trains_a_hundredth_of_its_backbone(path):
    config = load_config(path)
    check_image_size(config.model, config.data.image_size)
    network = build_without_memory(config.model)
    add_adapters(network, config.model)
    check_adapters(network, config.model, config.data.image_size)
    freeze(network, config.model, config.train.trainable)
    parameters = list(network.backbone.parameters())
    assert 0 < sum(one.numel() for one in parameters if one.requires_grad) < 0.01 * sum(map(torch.numel, parameters))
