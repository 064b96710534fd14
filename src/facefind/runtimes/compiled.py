"""Where what OpenVINO compiles of quantized models is kept from one process to the next."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ENVIRONMENT = "FACEFIND_CACHE"
"""Environment variable that names another folder; empty: nothing is kept."""

_MOST_BYTES = 64 << 20


def folder() -> Path | None:
    """Return the folder, which exists; None where nothing is to be kept, or nothing can be.

    It is the user's own cache folder (platformdirs' `user_cache_path`), or what $FACEFIND_CACHE
    names. Of what was kept there the files that were not read for longest are removed, so that at
    most 64 MiB are there before another one comes.
    """
    named = os.environ.get(ENVIRONMENT)
    if named == "":
        return None
    if named is None:
        from platformdirs import user_cache_path

        place = user_cache_path("facefind", appauthor=False)
        if not place.is_absolute():  # of a user without a home: it would lie in the working folder
            return None
    else:
        place = Path(named).expanduser()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = [(file, file.stat()) for file in place.glob("*.blob")]
    except OSError:
        return None
    if not os.access(place, os.W_OK | os.X_OK):
        return None
    size = sum(state.st_size for _, state in kept)
    for file, state in sorted(kept, key=lambda one: max(one[1].st_atime, one[1].st_mtime)):
        if size <= _MOST_BYTES:
            break
        size -= state.st_size
        with contextlib.suppress(OSError):  # another process may have been faster
            file.unlink()
    return place
