"""`ltrsys audit`: whether a run saw every sample of its plan once."""

import json as json_module
from dataclasses import asdict

from ltrsys.cli.arguments import JsonOption, RunArgument
from ltrsys.errors import DataError


def audit(run: RunArgument, json: JsonOption = False) -> None:
    """Check what a run was trained on, over all its starts and ranks, against the plan."""
    from ltrsys.commands.data.audit import (  # imports numpy and the plan, which other commands do not need
        SHOWN,
        audit_run,
    )

    report = audit_run(run)
    if json:
        print(json_module.dumps(asdict(report) | {"complete": report.complete}, indent=1))
    else:
        for attempt in report.attempts:
            ranks = "1 rank" if attempt.world_size == 1 else f"{attempt.world_size} ranks"
            print(
                f"attempt {attempt.number}: {ranks}, steps {attempt.first_step + 1} to "
                f"{attempt.last_step}" + (" (none counts)" if attempt.last_step <= attempt.first_step else "")
            )
        print(f"{report.steps} steps, {report.samples} samples; {report.retrained_steps} steps were trained again.")
        if report.unsaved_steps:
            print(f"{report.unsaved_steps} more steps do not count: no checkpoint holds them.")
        if report.replaced:
            print(f"{report.replaced} samples stood in for bad ones, which {run / 'quarantine.jsonl'} names.")
    if not report.complete:
        more = f" ({len(report.findings) - SHOWN} more)" if len(report.findings) > SHOWN else ""
        raise DataError(f"{run}: {'; '.join(report.findings[:SHOWN])}{more}. The run is not the one of its plan.")
    if not json and report.steps:
        print("Every position up to the last step was trained on once, with the sample of the plan.")
