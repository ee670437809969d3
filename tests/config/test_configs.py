from pathlib import Path
from typing import Any

import pytest
import yaml

from ltrsys.config.reading import load_config
from ltrsys.studies.figures.base import figure_of
from ltrsys.studies.study import OpenStudy

CONFIGS = Path(__file__).parent.parent.parent / "configs"
RECIPES = sorted(CONFIGS.glob("*/*.yaml"))
STUDIES = sorted(CONFIGS.glob("*/studies/*.yaml"))
EXPERIMENTS = [path for path in RECIPES if path.stem not in ("base", "debug")]


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_loads(path):
    load_config(path)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_a_study_is_read_and_says_what_it_is(path):
    study = OpenStudy.read(path)
    assert study.trainings
    assert study.study.source
    assert "the paper's" in path.read_text().splitlines()[0].lower()
    assert (figure_of(study) is not None) == path.stem.startswith("figure")


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
    assert differing <= {"name", "model.backbone", "train.epochs", *own_of_sampler}


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
    imagenet_lt = {"resnet10", "resnext50", "resnext152"}  # Table 2
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
        ("imagenet_lt/resnext50_class_balanced", "data.sampler.samples_per_draw", 4),
        ("inaturalist_2018/resnet152_200", "train.optimizer.weight_decay", 1e-4),
        ("inaturalist_2018/resnet152_200", "data.augmentation.brightness", 0.0),
        ("inaturalist_2018/resnet152_200", "data.mean", [0.466, 0.471, 0.380]),
        ("inaturalist_2018/resnet152_200", "balance.crt.epochs", 30),
        ("inaturalist_2018/resnet152_200", "balance.tau.select_on", "train"),
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
