"""A run that `ltrsys balance` has reported on, opened to look at its predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ltrsys.classifiers.joint import Joint
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import DataError
from ltrsys.evaluation.opening import check_known, evaluated, open_bank, open_device, open_fitted, open_trained
from ltrsys.evaluation.predictions import Predictions
from ltrsys.evaluation.results import Results, read_results
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.features.bank import FeatureBank
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.fitting import evaluated_split, nothing_to_report_on
from ltrsys.second_stage.reference import load_reference
from ltrsys.second_stage.store import Fitted
from ltrsys.world import World


@dataclass(frozen=True)
class BalancedRun:
    """Results, and the classifiers and predictions that they were measured on."""

    run: RunFolder
    config: Config
    dataset: Dataset
    bank: FeatureBank
    results: Results
    reported: EvaluatedSplit
    """The split that results are of."""
    joint: Joint
    fitted: dict[str, Fitted]
    """The classifier of each line of the results, by its name, in their order."""
    predictions: Predictions

    @classmethod
    def open(cls, folder: Path, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> "BalancedRun":
        """Open a run; nothing is computed yet.

        Raises:
            UsageError: For a folder that is no finished run, or a classifier of a plug-in that is not named.
            DataError: Where it has not been balanced, or something has changed since.
        """
        run, config = open_trained(folder, overrides, plugins)
        dataset = open_dataset(config.data)
        name = evaluated_split(dataset)
        if name is None:
            raise DataError(nothing_to_report_on(dataset))
        results = read_results(run.results)
        check_known(run, results)
        bank = open_bank(run, config, dataset)
        device = open_device(World.detect(), config)
        reported = evaluated(bank, name, config, device)
        fitted = {line.classifier: open_fitted(run, line.classifier, bank, device) for line in results.results}
        for line in results.results:
            current = reported.line_fingerprint(fitted[line.classifier].fingerprint)
            if results.split != name or line.fingerprint != current:
                raise DataError(
                    f"{run.results}: the line of {line.classifier} is out of date: split, shots or classifier have "
                    f"changed since. Run `ltrsys balance {folder}` again."
                )
            bank.require(name, fitted[line.classifier].classifier.features)
        joint = load_reference(run, config.model.head, device)
        predictions = Predictions(run.predictions, reported)
        return cls(run, config, dataset, bank, results, reported, joint, fitted, predictions)


def labels_of(runs: Sequence[BalancedRun]) -> list[str]:
    """Return the names of the runs; their folders, where names are not different."""
    names = [run.config.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.run.path) for run in runs]
