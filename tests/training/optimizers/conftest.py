import pytest
import torch

from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(ModelConfig(backbone="resnet10", stem="small"), 3)
