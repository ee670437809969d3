"""Which images of a batch could not be decoded: DALI says that one could not, not which.

Their bytes are those of the index, or the reader would have told; so they have been bad since the shards were built.
"""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltrsys.data.index.dataset import Split
from ltrsys.data.reading.reader import BadSample
from ltrsys.data.reading.shard_files import Encoded
from ltrsys.errors import DataError


def undecodable(split: Split, samples: NDArray[np.int64], encoded: Sequence[Encoded], why: str) -> list[BadSample]:
    """Return an error for each image of a batch that is not what the index says; at least one.

    Args:
        split: The images.
        samples: Sample ids of the batch, [B].
        encoded: Their bytes, as they were fed to DALI.
        why: DALI's own words, for the case that every image is fine for PIL.

    Raises:
        DataError: In that case.
    """
    bad = []
    for sample, image_bytes in zip(samples.tolist(), encoded, strict=True):
        size = (int(split.width[sample]), int(split.height[sample]))
        if reason := _reason(image_bytes, size):
            what = f"{split.describe(sample)}: {reason}. Build the shards again, with this image replaced or left out."
            bad.append(BadSample(split, sample, what))
    if not bad:
        raise DataError(f"DALI cannot decode one of the samples {samples.tolist()}: {' '.join(why.split())}")
    return bad


def _reason(image_bytes: Encoded, size: tuple[int, int]) -> str | None:
    try:
        with Image.open(io.BytesIO(image_bytes)) as image:
            if image.size != size:
                return f"is {image.width} x {image.height} pixels, but the index says {size[0]} x {size[1]}"
            image.load()
    except Image.DecompressionBombError:
        return None
    except (OSError, SyntaxError, ValueError) as error:
        return f"not a readable image ({str(error).split(' <')[0]})"
    return None
