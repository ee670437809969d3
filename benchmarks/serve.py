"""Requests a second of `ltrsys serve`, and how long they take: in batches of what waits, and one by one.

Server and clients share the machine. Each request sends one photograph.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from benchmarks.photographs import photograph
from benchmarks.report import ROOT, Table, interleaved, main, summary
from ltrsys.classifiers.joint import Joint
from ltrsys.config.schema import Config
from ltrsys.data.config import DataConfig
from ltrsys.data.index.records import ClassRecord
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.models.signature import Preprocessing, Signature
from ltrsys.prediction.loading import LoadedModel
from ltrsys.prediction.predictor import Predictor
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import Fitted
from ltrsys.serving.app import create_app
from ltrsys.serving.batching import Batcher
from ltrsys.serving.guards.limits import Limits
from ltrsys.serving.served import Served
from ltrsys.serving.server import Server, listen
from ltrsys.serving.service import Service

NETWORKS = ("shufflenet_v2_x0_5", "resnet50")
CLASSES, BATCH_SIZE, PHOTOGRAPHS, THREADS = 1000, 32, 64, 2
PATIENCE = 0.005
"""Seconds that a batch waits for others where that is measured."""
CPU = torch.device("cpu")


class PatientBatcher(Batcher):
    """Waits for others once an image has come."""

    def _next_batch(self) -> list[Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
        time.sleep(PATIENCE)
        return super()._next_batch()


def measure(quick: bool) -> list[Table]:
    """Measure on photographs of 300 pixels."""
    networks, clients, seconds, rounds = (NETWORKS[:1], (1, 4), 0.5, 1) if quick else (NETWORKS, (1, 4, 16, 64), 6.0, 3)
    with tempfile.TemporaryDirectory(prefix="ltrsys-serve-") as folder:
        for number in range(PHOTOGRAPHS):
            (Path(folder) / f"{number:03d}.jpg").write_bytes(photograph(number, 300))
        rows = [row for name in networks for row in _rows(name, clients, seconds, rounds, Path(folder))]
    notes = [
        f"JPEGs, short side 300; images of 224 pixels; batches of at most {BATCH_SIZE}; each number is of {rounds} "
        f"turns of {seconds:g} s in changing order, requests/s the median of them.",
        "p50 and p99: of all requests of these turns, from the first byte sent to the last one received.",
    ]
    return [Table("Naming over HTTP", list(rows[0]), rows, notes)]


def _rows(
    network: str, clients: tuple[int, ...], seconds: float, rounds: int, folder: Path
) -> Iterator[dict[str, Any]]:
    predictor = _predictor(network, folder)
    with ExitStack() as servers:
        ports = {
            "what waits": servers.enter_context(_serving(predictor)),
            f"after {1000 * PATIENCE:g} ms": servers.enter_context(_serving(predictor, PatientBatcher)),
            "one by one": servers.enter_context(_serving(replace(predictor, batch_size=1))),
        }
        for count in clients:
            yield from _rows_of(network, count, ports, seconds, rounds, folder)


def _rows_of(
    network: str, clients: int, ports: Mapping[str, int], seconds: float, rounds: int, folder: Path
) -> Iterator[dict[str, Any]]:
    taken: dict[str, list[float]] = {name: [] for name in ports}

    def turn(name: str) -> float:
        command = [sys.executable, "-m", "benchmarks.serve_clients"]
        arguments = [str(ports[name]), str(clients), str(seconds), str(folder)]
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        own = json.loads(done.stdout)
        taken[name] += own
        return clients * len(own) / sum(own)  # each client always has one request under way

    rates = interleaved({name: lambda name=name: turn(name) for name in ports}, rounds)  # type: ignore[misc]
    for name, own in taken.items():
        p50, p99 = np.quantile(own, [0.5, 0.99]) * 1000
        yield {
            "network": network,
            "clients": clients,
            "batches": name,
            "requests/s": summary(rates[name])["median"],
            "p50 ms": float(p50),
            "p99 ms": float(p99),
        }


def _predictor(network: str, folder: Path) -> Predictor:
    """Return one whose weights are random: how fast it is does not depend on them."""
    data = DataConfig(shards=folder, threads=THREADS)
    config = Config(name="serve", data=data, model=ModelConfig(backbone=network))
    built = build_network(config.model, CLASSES)
    signature = Signature(
        classes=[ClassRecord(name=f"class {number}") for number in range(CLASSES)],
        train_counts=[100] * CLASSES,
        preprocessing=Preprocessing(
            reduced_to=None,
            resize=data.resize,
            image_size=data.image_size,
            mean=tuple(data.mean),
            std=tuple(data.std),
        ),
    )
    weights = torch.randn(CLASSES, built.feature_dim, generator=torch.Generator().manual_seed(0))
    fitted = Fitted(Joint(weights, torch.zeros(CLASSES)), "", "")
    model = LoadedModel(RunFolder(folder), config, signature, built.backbone.eval(), built.feature_dim, fitted)
    return Predictor(model, CPU, BATCH_SIZE)


@contextmanager
def _serving(predictor: Predictor, batcher: type[Batcher] = Batcher) -> Iterator[int]:
    """Serve in a thread; yield the port."""
    served = Served({predictor.classifier: predictor}, {}, None)
    service = Service(served, Limits())
    service._batcher = batcher(served.predictors)
    service.start()
    ready = Event()
    with listen("127.0.0.1", 0) as taken:
        server = Server(create_app(service), service.limits, ready=ready.set)
        thread = Thread(target=lambda: asyncio.run(server.serve([taken])))
        thread.start()
        try:
            ready.wait()
            yield taken.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
            service.close()


if __name__ == "__main__":
    main("serve", measure)
