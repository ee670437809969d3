"""Files of pretrained weights, wherever `model.pretrained` says that they are: on a disk, on the hub, at an address."""

import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch

from ltrsys.errors import UsageError
from ltrsys.models.backbones.libraries.base import library_of
from ltrsys.models.backbones.libraries.torchvision import Torchvision
from ltrsys.models.config import ModelConfig

HUB = "hf-hub:"
HUB_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
"""Names of weights in a repository of the hub, those that are no pickles first."""


@dataclass(frozen=True)
class FoundFile:
    """A file of weights."""

    path: Path
    origin: str
    """Where it comes from: its path, its address, or repository, commit and name on the hub."""


def find_weights(config: ModelConfig) -> FoundFile:
    """Return the file that `model.pretrained` means, fetched if it is elsewhere.

    Raises:
        UsageError: Where there is none, or its server cannot be reached: says what to fetch by hand.
    """
    if config.pretrained is True:
        return _published(config.backbone)
    wanted = str(config.pretrained)
    if wanted.startswith(HUB):
        return _from_hub(wanted.removeprefix(HUB))
    if not Path(wanted).exists():
        raise UsageError(
            f"model.pretrained={wanted}: there is no such file. Give a file of weights, true for those that are "
            f"published for model.backbone={config.backbone}, or hf-hub:OWNER/NAME."
        )
    return FoundFile(Path(wanted), wanted)


def _published(backbone: str) -> FoundFile:
    library, name = library_of(backbone) or (Torchvision, backbone)
    published = library.published(name) if name in library.names() else None
    if published is None:
        raise UsageError(
            f"model.pretrained=true: no weights are published for model.backbone={backbone}. Give a file, or "
            "hf-hub:OWNER/NAME."
        )
    if published.repository is not None:
        return _from_hub(published.repository)
    assert published.url is not None
    return _from_address(published.url)


def _from_hub(repository: str) -> FoundFile:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = repository.partition("@")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # of a hub that is not reached it tells a dozen times
    for file in HUB_FILES:
        try:
            path = Path(hf_hub_download(name, file, revision=revision or None))
        except LocalEntryNotFoundError as error:  # neither in the cache nor to be had
            raise UsageError(_unreachable(f"hf-hub:{repository}", _address(name, file, revision), error)) from None
        except EntryNotFoundError:
            continue
        except GatedRepoError:
            raise UsageError(
                f"model.pretrained={HUB}{repository}: its authors let nobody fetch it who has not agreed to their "
                f"terms. Agree at https://huggingface.co/{name}, then run `hf auth login`."
            ) from None
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
            raise UsageError(
                f"model.pretrained={HUB}{repository}: the hub has no such repository, or keeps it from you. Look at "
                f"https://huggingface.co/{name}; `hf auth login` lets you read private ones."
            ) from None
        except OSError as error:
            raise UsageError(_unreachable(f"hf-hub:{repository}", _address(name, file, revision), error)) from None
        # .../snapshots/<commit>/<file>
        return FoundFile(path, f"{HUB}{name}@{path.parent.name}/{file}")
    raise UsageError(
        f"model.pretrained={HUB}{repository}: the repository has none of {', '.join(HUB_FILES)}. Fetch its file of "
        "weights yourself, and give its path."
    )


def _address(repository: str, file: str, revision: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, file, revision=revision or None)


def _from_address(url: str) -> FoundFile:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (URLError, OSError) as error:
            raise UsageError(_unreachable("true", url, error)) from None
    return FoundFile(path, url)


def _unreachable(wanted: str, url: str, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return (
        f"model.pretrained={wanted}: {urlsplit(url).netloc} cannot be reached ({reason[:200]}). On a machine with a "
        f"network, fetch {url}, copy it here, and give model.pretrained=its path."
    )
