"""Extensions of torch in C++ or CUDA C++, compiled once a machine and used again."""

import hashlib
import importlib.util
import logging
import os
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch
from torch.utils import cpp_extension

log = logging.getLogger("ltrsys")


def load_extension(name: str, sources: Sequence[Path], folder: Path) -> ModuleType:
    """Import an extension from a folder; compile it first where it is not there yet.

    Each build has a folder of its own, and its result is moved: it is whole or absent. No one waits for another, and so
    not for one that was killed: torch's own folder of builds has a lock, which releases before 2.14 leave there then,
    and a compiler that outlives its process would write what the next one writes.

    Args:
        name: Of the module.
        sources: With all that they include beside them.
        folder: Made if need be.

    Raises:
        RuntimeError: If the compilation fails.
        OSError: Without a compiler, or where the folder cannot be written.
    """
    path = folder / f"{name}-{_fingerprint(sources)}.so"
    if path.exists():
        return _imported(name, path)
    log.info("%s is compiled for this machine, once, into %s: about a minute.", name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        module = cpp_extension.load(
            name, [str(source) for source in sources], extra_cuda_cflags=["-O3"], build_directory=beside
        )
        os.replace(str(module.__file__), path)
    return module


def _fingerprint(sources: Sequence[Path]) -> str:
    """Return what tells one build from another: the code, and all that it is compiled for and with."""
    beside = {path for source in sources for path in (source, *source.parent.glob("*.h"))}
    targets = os.environ.get("TORCH_CUDA_ARCH_LIST") or sorted(
        {torch.cuda.get_device_capability(number) for number in range(torch.cuda.device_count())}
    )
    built_for = [path.read_text(encoding="utf-8") for path in sorted(beside)]
    built_for += [torch.__version__, str(cpp_extension.CUDA_HOME), repr(targets), os.environ.get("CXX", "c++")]
    built_for += [str(sysconfig.get_config_var("SOABI")), os.uname().machine]
    return hashlib.sha256(repr(built_for).encode()).hexdigest()[:16]


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert isinstance(spec, ModuleSpec)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
