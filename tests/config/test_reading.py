import pickle
import re

import pytest
import yaml

from ltrsys.config.reading import load_config, save_config
from ltrsys.config.schema import Config
from ltrsys.errors import UsageError
from ltrsys.models.config import ModelConfig

GOOD = """
name: good
data:
  shards: data/good
train:
  optimizer: {lr: 1e-4}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "config.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refusal(path, overrides=()) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def test_what_is_saved_loads_to_the_same_config(write, tmp_path):
    config = load_config(write(GOOD), ["data.sampler={kind: power, q: 0.3}", "balance.tau.grid=[0, 0.5]"])
    save_config(config, tmp_path / "resolved.yaml")
    assert load_config(tmp_path / "resolved.yaml") == config


def test_a_number_without_a_point_is_a_number(write):
    assert load_config(write(GOOD)).train.optimizer.lr == 1e-4
    assert load_config(write(GOOD), ["train.optimizer.lr=5e-3"]).train.optimizer.lr == 5e-3


@pytest.mark.parametrize(
    ("line", "key", "nearest"),
    [
        ("seeed: 1", "seeed", "seed"),
        ("model: {backbon: resnet50}", "model.backbon", "model.backbone"),
        ("balance: {tau: {gird: [0]}}", "balance.tau.gird", "balance.tau.grid"),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_the_nearest(write, line, key, nearest):
    path = write(GOOD + line + "\n")
    message = refusal(path)
    assert message.startswith(f"{path}:7: unknown key `{key}`. Did you mean `{nearest}`?")


def test_an_unknown_key_without_a_near_one_lists_the_known(write):
    assert f"Known: {', '.join(ModelConfig.model_fields)}." in refusal(write(GOOD + "model: {zzzz: 1}\n"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seed: many", r":7: `seed`: input should be a valid integer, not 'many' \(str\)"),
        ("seed: 1.5", r":7: `seed`: .*integer.* 1.5 \(float\)"),
        ("seed: '1'", r":7: `seed`: .*integer.* '1' \(str\)"),
        ("train: {compile: 1}", r":7: `train` is given twice"),
        ("balance: {crt: 3}", r":7: `balance.crt`: .*CRTConfig, not 3 \(int\)"),
        ("shots: {few: 200}", r":7: `shots`: few \(200\) is not above many \(100\)"),
        ("tracking: {wandb: maybe}", r":7: `tracking.wandb`: input should be 'disabled', 'offline' or 'online'"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(write, line, expected):
    path = write(GOOD + line + "\n")
    assert re.match(re.escape(str(path)) + expected, refusal(path))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=many", "the command line (`train.epochs=many`): `train.epochs`: input should be"),
        ("train.epoch=3", "the command line (`train.epoch=3`): unknown key `train.epoch`. Did you mean `train.epochs`"),
        ("train.epochs", "`train.epochs`: an override has the form key.sub=value"),
        ("=3", "`=3`: an override has the form key.sub=value"),
        ("name.sub=3", "`name.sub=3`: `name` is a value, not a section"),
        ("data.mean=[1, 2", "the value is not valid YAML"),
        ("train..epochs=3", "unknown key"),
        ("train.micro_batch_size=7", "train.batch_size=512 is not a multiple of train.micro_batch_size=7"),
    ],
)
def test_a_wrong_override_is_named(write, override, expected):
    assert expected in refusal(write(GOOD), [override])


def test_an_override_of_a_section_keeps_the_rest_of_it(write):
    config = load_config(write(GOOD), ["train={epochs: 3}", "train.batch_size=8"])
    assert (config.train.epochs, config.train.batch_size, config.train.optimizer.lr) == (3, 8, 1e-4)


def test_a_file_takes_from_the_one_it_extends_what_it_does_not_change(write):
    write(GOOD, "base.yaml")
    config = load_config(write("extends: base.yaml\nname: mine\ntrain: {optimizer: {momentum: 0.5}}\n"))
    assert (config.name, config.train.optimizer.lr, config.train.optimizer.momentum) == ("mine", 1e-4, 0.5)


def test_a_mistake_in_the_extended_file_is_blamed_on_that_file(write):
    base = write(GOOD + "seeed: 1\n", "base.yaml")
    assert refusal(write("extends: base.yaml\n")).startswith(f"{base}:7: unknown key `seeed`")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: config.yaml\n", "extends itself"),
        ("extends: none.yaml\n", r"none.yaml: cannot read this config: No such file or directory \(extended by"),
        ("extends: [a, b]\n", "config.yaml:1: `extends` names one other config file"),
        ("- 1\n- 2\n", "a config is a mapping"),
        ("", "a config is a mapping of keys to values, not nothing"),
        ("name: a\nname: b\n", "config.yaml:2: `name` is given twice"),
        ("name: [a\n", "config.yaml:[12]: not valid YAML"),
        ("name: a\ndata: {}\n", "`data.shards` is missing. Give it in the file or as data.shards=VALUE"),
        ("name: a/b\ndata: {shards: x}\n", "config.yaml:1: `name`:"),
        ("name: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("1: 2\nname: a\ndata: {shards: x}\n", "config.yaml:1: `1` is not a name"),
        ("? [a, b]\n: 2\n", "config.yaml"),
    ],
)
def test_a_file_that_is_no_config_is_refused(write, text, expected):
    assert re.search(expected, refusal(write(text)))


def test_a_file_that_is_not_there_or_not_text_is_refused(write, tmp_path):
    assert "cannot read this config" in refusal(tmp_path / "none.yaml")
    assert "cannot read this config" in refusal(tmp_path)
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot read this config" in refusal(path)


def test_how_many_more_mistakes_there_are_is_told(write):
    assert "(1 more after this one)" in refusal(write(GOOD + "seeed: 1\nmodl: 2\n"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["train.channels_last=maybe"], "input should be True, False or 'auto', not 'maybe'"),
        (["train.zero_stage=1", "train.channels_last=true"], "train.channels_last=false"),
        (["train.zero_stage=1", "train.engine=ddp"], "train.engine=deepspeed"),
        (["train.zero_stage=1", "train.channels_last=false", "train.precision=fp16"], "train.precision=bf16"),
        (["data.image_size=512"], "does not fit into data.resize"),
        (["data.sampler.kind=power"], "`data.sampler.q` is missing"),
        (["data.sampler={kind: square_root, q: 0.5}"], "unknown key `data.sampler.q`"),
        (["data.sampler.kind=powr"], "`powr`: unknown sampler. Did you mean power?"),
    ],
)
def test_keys_that_do_not_go_together_are_refused_with_a_way_out(write, overrides, expected):
    assert expected in refusal(write(GOOD), overrides)


def test_every_key_of_the_schema_survives_yaml(write):
    config = load_config(write(GOOD))
    assert Config.model_validate(yaml.safe_load(yaml.safe_dump(config.dump()))) == config


def test_a_config_goes_to_other_processes(write):
    config = load_config(write(GOOD), ["balance.crt.epochs=3"])
    assert pickle.loads(pickle.dumps(config)) == config


SGD = "train: {optimizer: {kind: sgd, lr: 0.2, momentum: 0.95}}\n"


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.optimizer.kind=adamw", "train.optimizer.weight_decay=0.3"],
        ["train.optimizer.weight_decay=0.3", "train.optimizer.kind=adamw"],
        ["train.optimizer={kind: adamw, weight_decay: 0.3}"],
    ],
)
def test_a_section_of_another_method_begins_with_its_own_defaults(write, overrides):
    optimizer = load_config(write("name: a\ndata: {shards: s}\n" + SGD), overrides).train.optimizer
    fresh = load_config(write("name: a\ndata: {shards: s}\n"), ["train.optimizer.kind=adamw"]).train.optimizer
    assert optimizer == fresh.model_copy(update={"weight_decay": 0.3})


def test_a_file_that_extends_another_may_change_the_method(write):
    write("name: a\ndata: {shards: s}\n" + SGD, "base.yaml")
    config = load_config(write("extends: base.yaml\ntrain: {optimizer: {kind: adamw}}\n"))
    assert config.train.optimizer.kind == "adamw"
    assert config.train.optimizer.lr != 0.2


def test_the_same_method_named_again_keeps_its_settings(write):
    text = "name: a\ndata: {shards: s}\ntrain: {optimizer: {lr: 0.2, momentum: 0.95}}\n"
    optimizer = load_config(write(text), ["train.optimizer.kind=sgd"]).train.optimizer
    assert (optimizer.lr, optimizer.model_dump()["momentum"]) == (0.2, 0.95)
