"""Starts the engine that the config names."""

from ltrsys.models.network import Network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.batch_norm import synchronise_batch_norm
from ltrsys.training.engines.engine import Engine
from ltrsys.training.engines.trained import Trained
from ltrsys.training.objective import Objective
from ltrsys.training.optimizers.base import build_optimizer


def start_engine(
    network: Network, config: TrainConfig, objective: Objective, *, accumulation: int, micro_batch_size: int
) -> Engine:
    """Start the configured engine on `network`, whose device and weights are those of the run.

    Args:
        network: On the device, with the same weights on every rank.
        config: Precision, optimizer, engine.
        objective: What is minimised; its loss is on the device, the same on every rank.
        accumulation: Micro-batches of this rank in a step.
        micro_batch_size: Samples in each.

    Raises:
        UsageError: Where the config asks for what this machine or DeepSpeed cannot do.
    """
    device = network.classifier.weight.device
    if config.batch_norm == "sync":
        network = synchronise_batch_norm(network, device)
    trained = Trained(network, objective)
    if config.compile and config.engine == "deepspeed" and config.zero_stage > 0:
        trained.compile()
    optimizer = build_optimizer(network, config.optimizer, device, objective.module, objective.lr)
    if config.engine == "ddp":
        from ltrsys.training.engines.ddp import DDPEngine

        return DDPEngine(network, trained, optimizer, config, objective, accumulation=accumulation)
    from ltrsys.training.engines.deepspeed import DeepSpeedEngine  # slow to import

    return DeepSpeedEngine(
        network, trained, optimizer, config, objective, accumulation=accumulation, micro_batch_size=micro_batch_size
    )
