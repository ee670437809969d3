"""Where shards are: a folder, or the URL of one.

A URL is only ever handed to the client of its own protocol. What else looks like one is refused by its name: other
programs take `pipe:COMMAND` for something to run in a shell.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "s3")

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")


def folder_or_url(text: str) -> Path | str:
    """Return a path for a folder's name, and the text without its last slash for the URL of a folder.

    Raises:
        ValueError: For another scheme, or a URL that is not one of a folder.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(text)
    if scheme[1].lower() not in SCHEMES:
        raise ValueError(
            f"`{scheme[1]}:` is not a scheme for shards: give a folder (`./{text}` if it is one of that name) or a URL "
            f"of {', '.join(SCHEMES)}"
        )
    parts = urlsplit(text)
    if not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{scheme[1]}://HOST/FOLDER is the URL of a folder, without ? and #")
    if "@" in parts.netloc:
        raise ValueError(
            "a name and a password do not belong into a URL, which ends up in files: put them into ~/.netrc, or for s3 "
            "into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return text.rstrip("/")
