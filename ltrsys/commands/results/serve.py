"""Serving a run: a page and an API that name photographs, until a signal comes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from ltrsys.errors import UsageError
from ltrsys.evaluation.opening import open_trained
from ltrsys.section import DeviceName
from ltrsys.serving.guards.limits import Limits

log = logging.getLogger("ltrsys")


@dataclass(frozen=True)
class ServeOptions:
    """What the command line says."""

    limits: Limits = field(default_factory=Limits)
    host: str = "127.0.0.1"
    port: int = 8000
    classifiers: Sequence[str] = ()
    allowed_hosts: Sequence[str] = ()
    device: DeviceName = "auto"
    batch_size: int | None = None
    access_log: bool = False
    plugins: Sequence[str] = ()


def serve(run: Path, options: ServeOptions) -> None:
    """Serve a run until SIGINT or SIGTERM comes.

    Raises:
        UsageError: For a folder that is no balanced run, a classifier that is not fitted, a port that is taken, or
            where the extra `serve` is not installed.
        DataError: For files of the run that are damaged or do not belong together.
    """
    require_extra()
    from ltrsys.serving.app import create_app
    from ltrsys.serving.guards.headers import LOOPBACK
    from ltrsys.serving.served import Served
    from ltrsys.serving.server import Server, address_of, listen, make_room_for
    from ltrsys.serving.service import Service

    open_trained(run, (), options.plugins)  # what is no run is told before torch looks for a GPU
    make_room_for(options.limits)
    with listen(options.host, options.port) as taken:
        is_loopback = taken.getsockname()[0] in LOOPBACK
        if not is_loopback:
            log.warning(
                "--host %s: whoever reaches this address can use the server and see thumbnails of the training images: "
                "there is no password. Put a proxy that asks for one before it (docs/serving.md).",
                options.host,
            )
        served = Served.load(run, options.classifiers, device=options.device, batch_size=options.batch_size)
        service = Service(served, options.limits)
        service.start()
        try:
            hosts = {*LOOPBACK, *options.allowed_hosts} if is_loopback or options.allowed_hosts else None
            app = create_app(service, hosts=hosts)
            names = ", ".join(served.predictors)
            log.info("%s: %s, %d classes.", run, names, len(served.classes))
            line = f"{address_of(taken)} is ready; Ctrl-C ends it."
            Server(app, options.limits, ready=lambda: log.info(line), access_log=options.access_log).run([taken])
        finally:
            service.close()


def require_extra() -> None:
    """Raise a UsageError where the packages of the extra `serve` are missing."""
    for name in ("fastapi", "uvicorn", "python_multipart"):
        if find_spec(name) is None:
            raise UsageError(f"ltrsys serve needs `{name}`, which is missing here: pip install 'ltrsys[serve]'.")
