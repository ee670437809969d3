"""The image formats that are taken, by ending and by content. HEIF is one in each process that imports this."""

import warnings

import pi_heif
from PIL import Image

# Done on import, since worker processes are spawned and know nothing of what their parent has registered. One thread:
# there is a process for each core already.
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)

SURE_FORMATS = (
    "JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "HEIF", "AVIF", "JPEG2000", "PSD", "QOI", "DDS", "SGI", "SUN",
)  # fmt: skip
"""Pillow's names of the formats whose beginning no other file shares: these are told by their content alone."""
FORMATS = (
    *SURE_FORMATS,
    "BLP", "CUR", "DCX", "DIB", "FITS", "FLI", "FTEX", "GBR", "ICNS", "ICO", "IM", "IMT", "IPTC", "MCIDAS", "MSP",
    "PCD", "PCX", "PIXAR", "SPIDER", "TGA", "XBM", "XPM", "XVTHUMB",
)  # fmt: skip
"""All formats that Pillow decodes by itself. It knows BUFR, GRIB, HDF5, MPEG and WMF by their beginning only, and has
another program run EPS, which a file from strangers must not."""
IMAGE_ENDINGS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".dib",
    ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif", ".heics", ".heifs", ".avif", ".avifs", ".jp2", ".j2k",
    ".jpc", ".jpf", ".jpx", ".j2c", ".psd", ".qoi", ".tga", ".pcx",
})  # fmt: skip
"""A file with one of these is meant as an image: one that cannot be decoded is an error and not passed over."""
NO_PHOTOGRAPH_ENDINGS = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f", ".thm",
})  # fmt: skip
"""Raw files of cameras, which look like a TIFF that holds a thumbnail, and thumbnails of films."""


def ending(name: str) -> str:
    """Return the ending of a file's name in small letters with its dot; an empty text where it has none."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def holds_image(path: str) -> bool:
    """Tell by the beginning of a file whether it is an image of one of the `SURE_FORMATS`, whatever its name."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, on size and odd metadata
            Image.open(file, formats=SURE_FORMATS)
    except Image.DecompressionBombError:
        return True  # an image, which validation refuses by its size
    except Exception:  # whatever a decoder finds wrong with a file that is none of its own
        return False
    return True
