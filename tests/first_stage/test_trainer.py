import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltrsys.commands.data.audit import audit_run
from ltrsys.config.reading import load_config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.glyphs import read_glyphs
from ltrsys.data.sources.long_tail import cut_to_long_tail
from ltrsys.errors import DataError, LtrsysError, UsageError
from ltrsys.first_stage.trainer import Trainer, train
from ltrsys.runs.folder import RunFolder
from ltrsys.training.checkpoints.checkpoint import Checkpoint
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.world import World
from tests.classifiers.runs import without_splits
from tests.first_stage.ranks import run as run_until
from tests.trainings import losses_of, read_metrics

pytestmark = pytest.mark.long


def fit(path, overrides=()):
    config = load_config(path, overrides)
    train(config, World())
    return config.run_folder


def test_two_runs_of_one_seed_have_the_same_losses(write_config, trained):
    one, other = trained(), fit(write_config("other"))
    assert losses_of(one) == losses_of(other)
    different = fit(write_config("different", seed=1))
    assert losses_of(different) != losses_of(one)


def test_a_run_folder_holds_what_the_contract_names(write_config, capsys):
    run = fit(write_config())
    assert {"config.yaml", "metrics.jsonl", "model.safetensors", "checkpoints"} <= {path.name for path in run.iterdir()}
    lines = read_metrics(run)
    training = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in training] == list(range(1, 7))
    assert training[-1]["epoch"] == 2.0
    assert training[-1]["train/images"] == 6 * 48
    for line in training:
        assert line["perf/images_per_second"] > 0
        assert 0 <= line["data/stall_share"] <= 1
        assert 0 < line["train/learning_rate"] <= 0.02
    evaluations = [line for line in lines if "val/all" in line]
    assert [line["step"] for line in evaluations] == [3, 6]
    assert {"val/many", "val/medium", "val/few", "val/all"} <= evaluations[-1].keys()
    for line in evaluations:
        assert line["val/mean_class_accuracy"] == line["val/all"], "the val split is balanced"
    printed = capsys.readouterr().out
    assert "val accuracy: many" in printed
    assert printed.count("\n") == 2, "what a disk reads is no news"


def test_a_resumed_run_ends_where_one_without_a_stop_does(write_config):
    straight = fit(write_config("straight", train__channels_last=True))
    path = write_config("stopped", train__channels_last=True)
    run_until(path, stop_after=1)
    stopped = load_config(path).run_folder
    assert not (stopped / "model.safetensors").exists()
    assert len(losses_of(stopped)) == 3
    fit(path)
    assert losses_of(stopped) == losses_of(straight)
    ours, theirs = (load_file(run / "model.safetensors") for run in (stopped, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_lines_logged_after_the_checkpoint_are_logged_again_not_twice(copied):
    path = copied(stop_after=1)
    metrics = load_config(path).run_folder / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write(json.dumps({"step": 4, "train/loss": 0.0}) + '\n{"step": 5, "lo')
    fit(path)
    assert [line["step"] for line in read_metrics(metrics.parent) if "train/loss" in line] == list(range(1, 7))


def test_a_finished_run_is_left_as_it_is(copied):
    path = copied(train__epochs=1)
    run = load_config(path).run_folder
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    assert fit(path) == run
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before


def test_another_experiment_does_not_go_on_from_this_one_s_checkpoint(copied):
    path = copied(stop_after=1)
    with pytest.raises(UsageError, match=r"begun with train\.optimizer\.lr=0\.02, but the config now says 0\.5"):
        fit(path, ["train.optimizer.lr=0.5"])


def with_plan_1(folder):
    """Have a run's checkpoints say what the first version of the plan had them say."""
    for path in folder.glob("checkpoints/*.safetensors"):
        checkpoint = Checkpoint.load(path)
        checkpoint.progress.plan, checkpoint.progress.code = 1, "0.1.0"
        checkpoint.progress.config["data"]["shuffle_window"] = 256
        checkpoint.save(path)


def test_a_run_of_another_plan_is_not_gone_on_with_and_kept(copied):
    path = copied(stop_after=1)
    run = load_config(path).run_folder
    with_plan_1(run)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(UsageError, match=r"begun by ltrsys 0\.1\.0 with version 1 of the plan"):
        fit(path)
    assert {file: file.read_bytes() for file in before} == before


def test_a_finished_run_of_another_plan_is_finished(copied, capsys):
    path = copied(train__epochs=1)
    with_plan_1(load_config(path).run_folder)
    capsys.readouterr()
    train(load_config(path), World())
    assert "There is nothing left to do." in capsys.readouterr().out


def with_record(shards, folder, change):
    """Make a dataset of the same files whose record `change` has altered."""
    folder = without_splits(shards, folder)
    record = json.loads((folder / "dataset.json").read_text())
    change(record)
    (folder / "dataset.json").write_text(json.dumps(record))
    return folder


def test_what_has_changed_in_the_shards_is_said_where_the_run_knows(copied, tiny_shards, tmp_path):
    path = copied(stop_after=1)
    run = RunFolder(load_config(path).run_folder)
    assert run.dataset.read_bytes() == (tiny_shards / "dataset.json").read_bytes()
    changed = with_record(tiny_shards, tmp_path / "changed", lambda record: record["classes"][1].update(name="new"))
    with pytest.raises(
        UsageError, match=r"begun on other shards than .*changed \(1 class renamed \(.* to new\)\)\. Give"
    ):
        fit(path, [f"data.shards={changed}"])
    run.dataset.write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: this copy .* is damaged\. .*: remove it to go on"):
        fit(path, [f"data.shards={changed}"])
    run.dataset.unlink()  # as in runs that were begun by 0.2.0
    with pytest.raises(UsageError, match=r"begun on other shards than .*changed \(their fingerprints differ\)"):
        fit(path, [f"data.shards={changed}"])
    run.dataset.write_text("{")
    fit(path)
    assert run.dataset.read_bytes() == (tiny_shards / "dataset.json").read_bytes()


def test_other_class_weights_in_the_same_file_are_refused(write_config, tmp_path):
    """What a class weighs decides which samples come: only the file's name is in the config."""
    weights = tmp_path / "weights.json"
    weights.write_text(json.dumps([1] * 12))
    path = write_config(data__sampler={"kind": "weights", "weights": str(weights)}, train__epochs=1)
    run = fit(path)
    weights.write_text(json.dumps([1] * 11 + [2]))
    with pytest.raises(UsageError, match=rf"begun with other class weights than {weights} now holds"):
        fit(path)
    with pytest.raises(UsageError, match="begun with other class weights"):
        audit_run(run)
    weights.write_text(json.dumps([1] * 12))
    assert audit_run(run).complete


def test_a_model_without_its_checkpoint_is_not_overwritten(copied):
    path = copied(train__epochs=1)
    run = load_config(path).run_folder
    (run / "checkpoints" / "step-000000003.safetensors").unlink()
    with pytest.raises(UsageError, match="holds a trained model"):
        fit(path)


def test_a_damaged_checkpoint_is_named(copied):
    path = copied(train__epochs=1)
    last = load_config(path).run_folder / "checkpoints" / "step-000000003.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"step-000000003\.safetensors"):
        fit(path)


def test_a_loss_that_is_not_finite_names_the_step_and_the_samples(write_config):
    path = write_config(train__optimizer={"lr": 1e30, "weight_decay": 0.0})
    with pytest.raises(
        LtrsysError, match=r"step [23]: the loss is (nan|inf) on rank 0, .* samples \d+, \d+.*optimizer\.lr"
    ):
        fit(path)


def test_with_the_paper_s_schedule_the_last_epoch_has_no_learning_rate(write_config):
    run = fit(write_config(train__schedule={"step": "epoch"}))
    assert [line["train/learning_rate"] for line in read_metrics(run) if "train/loss" in line] == pytest.approx(
        [0.01] * 3 + [0.0] * 3
    )


def test_the_last_epoch_is_evaluated_and_the_best_kept(write_config):
    run = fit(write_config(train__evaluate_every=5))
    assert [line["step"] for line in read_metrics(run) if "val/all" in line] == [6]
    assert (run / "checkpoints" / "best.safetensors").exists()


@pytest.fixture
def natural_val(tmp_path):
    """Shards whose val split has the frequencies of the training images: 8, 6, 4 and 1 images a class."""
    folder = tmp_path / "natural"
    (folder / "counts.json").parent.mkdir()
    (folder / "counts.json").write_text(json.dumps([80, 60, 40, 4]))
    source = cut_to_long_tail(
        read_glyphs(num_classes=4, seed=0, train_per_class=80), str(folder / "counts.json"), seed=0
    )
    val = source.splits["val"]
    kept = np.concatenate([np.flatnonzero(val.labels == label)[:images] for label, images in enumerate([8, 6, 4, 1])])
    build_shards(replace(source, splits=source.splits | {"val": val.take(kept)}), folder / "shards")
    return folder / "shards"


@pytest.fixture
def recognising(monkeypatch, natural_val):
    """Have evaluations recognise some classes, first those that have most of the images, then one more that has few."""
    epochs = iter([(0, 1), (1, 2, 3)])

    def predict(network, loader, num_samples, config):
        labels = Dataset.open(natural_val).split("val").label.astype(np.int64)
        return np.where(np.isin(labels, next(epochs)), labels, (labels + 1) % 4)

    monkeypatch.setattr("ltrsys.first_stage.evaluating.predict_split", predict)


@pytest.mark.parametrize(
    ("select_by", "best", "accuracy"),
    [({}, 2, 75.0), ({"train__select_by": "accuracy"}, 1, 100 * 14 / 19)],
    ids=["mean_class_accuracy", "accuracy"],
)
def test_the_best_is_chosen_by_the_mean_over_the_classes_unless_the_config_says_otherwise(
    write_config, natural_val, recognising, select_by, best, accuracy
):
    run = fit(write_config(data__shards=str(natural_val), **select_by))
    means = [line["val/mean_class_accuracy"] for line in read_metrics(run) if "val/all" in line]
    assert means == [50.0, 75.0]
    progress = Checkpoint.load(run / "checkpoints" / "best.safetensors").progress
    assert (progress.best_epoch, progress.best_accuracy, progress.epoch) == (best, accuracy, best)


def test_a_run_from_before_the_best_could_be_chosen_goes_on_by_accuracy(write_config, natural_val, recognising, caplog):
    path = write_config(data__shards=str(natural_val))
    run_until(path, stop_after=1)
    run = load_config(path).run_folder
    for file in run.glob("checkpoints/*.safetensors"):
        checkpoint = Checkpoint.load(file)
        del checkpoint.progress.config["train"]["select_by"], checkpoint.progress.accuracies["mean_class_accuracy"]
        checkpoint.progress.best_accuracy = checkpoint.progress.accuracies["all"]
        checkpoint.save(file)
    fit(path)
    last = CheckpointFolder(run / "checkpoints", kept=1).newest()[1].progress
    assert (last.epoch, last.best_epoch, last.best_accuracy) == (2, 1, 100 * 14 / 19), (
        "75 % of the mean is no 75 % of all"
    )
    assert last.accuracies["mean_class_accuracy"] == 75.0
    assert "select_by" not in last.config["train"], "the next time it is known again"
    assert load_config(run / "config.yaml").train.select_by == "accuracy"
    assert caplog.text.count("goes on to be chosen by accuracy") == 1
    assert audit_run(run).complete


def test_the_measure_of_the_best_cannot_change_within_a_run(copied):
    path = copied(stop_after=1)
    with pytest.raises(UsageError, match=r"begun with train\.select_by=mean_class_accuracy, but .* now says accuracy"):
        fit(path, ["train.select_by=accuracy"])


@pytest.mark.parametrize(("missing", "told"), [(("val", "test"), 1), (("val",), 0), (("test",), 0)])
def test_a_training_says_at_its_start_that_nothing_can_be_reported(
    write_config, tiny_shards, tmp_path, caplog, missing, told
):
    shards = without_splits(tiny_shards, tmp_path / "some", *missing)
    run_until(write_config(data__shards=str(shards)), stop_after=0)
    lines = [record for record in caplog.records if "neither a test nor a val split" in record.getMessage()]
    assert [record.levelname for record in lines] == ["WARNING"] * told
    assert all("--val 0.1 --test 0.1" in record.getMessage() for record in lines)


def test_a_backbone_is_started_from_another_run_s(write_config, trained):
    first = trained(train__epochs=1)
    second = load_config(write_config("second", model__weights=str(first / "model.safetensors")))
    from ltrsys.training.supervision.process_group import process_group

    with process_group(World(), 60) as device:
        trainer = Trainer(second, World(), device)
        started = {name: tensor.clone() for name, tensor in trainer.engine.network.state_dict().items()}
        trainer.close()
    trained = load_file(first / "model.safetensors")
    assert all(torch.equal(started[name], trained[name]) for name in trained if name.startswith("backbone."))
    assert not torch.equal(started["classifier.weight"], trained["classifier.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__batch_norm": "sync"}, "needs GPUs"),
        ({"model__backbone": "resnet11"}, "Nearest: resnet10"),
        ({"train__batch_size": 4800}, "fewer than train.batch_size"),
        ({"data__shards": "nowhere"}, "nowhere"),
        ({"model__weights": "nowhere.safetensors"}, "nowhere.safetensors: there is no file of weights"),
    ],
)
def test_what_cannot_be_run_is_told_before_training(write_config, changes, message):
    with pytest.raises(LtrsysError, match=message):
        fit(write_config(**changes))


def test_label_smoothing_and_gradient_accumulation_reach_the_loss(write_config, trained):
    plain = losses_of(trained(train__epochs=1))
    smooth = losses_of(fit(write_config("smooth", train__epochs=1, train__label_smoothing=0.3)))
    whole = losses_of(fit(write_config("whole", train__epochs=1, train__micro_batch_size=48)))
    assert smooth[0] != plain[0]
    assert whole[0] == pytest.approx(plain[0], abs=0.2)  # BatchNorm sees other groups


@pytest.mark.long
def test_a_run_learns(trained):
    """The loss falls, and images that it never saw are told apart far better than by chance, one in twelve."""
    run = trained(train__epochs=8, train__optimizer={"lr": 0.05})
    losses = losses_of(run)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    accuracies = [line["val/all"] for line in read_metrics(run) if "val/all" in line]
    assert accuracies[-1] > 2 * 100 / 12
