"""The section `tracking`."""

from typing import Literal

from pydantic import Field

from ltrsys.section import Section


class TrackingConfig(Section):
    """Where the metrics go besides metrics.jsonl."""

    wandb: Literal["disabled", "offline", "online"] = "offline"
    project: str = "ltrsys"
    tags: list[str] = Field(default=[])
