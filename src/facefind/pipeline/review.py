"""Contact sheets of what was redacted, for a person to look through."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from facefind.pipeline.stores import Store

__all__ = ["ContactSheets"]

_COLUMNS, _ROWS = 5, 4
_WIDTH, _HEIGHT, _TEXT = 320, 240, 18


class ContactSheets:
    """Pages of small pictures with a line of text each: sheet-0001.jpg, sheet-0002.jpg, ...

    Pages that are there stay: a run that goes on adds pages.

    Args:
        store: Where they lie, in the folder `review`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cells: list[tuple[NDArray[np.uint8], str]] = []
        there = (name for name in store.names("review") if name.endswith(".jpg"))
        numbers = (name.removeprefix("sheet-").removesuffix(".jpg") for name in there)
        self._next = 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)

    def add(self, image: NDArray[np.uint8], text: str) -> None:
        """Add a picture (H,W,3) uint8 RGB, as it was redacted, and what is to be said of it."""
        from PIL import Image

        small = Image.fromarray(image)
        small.thumbnail((_WIDTH, _HEIGHT))
        self._cells.append((np.asarray(small), text))
        if len(self._cells) == _COLUMNS * _ROWS:
            self.close()

    def close(self) -> None:
        """Write the last page, if anything is on it."""
        from PIL import Image, ImageDraw, ImageFont

        if not self._cells:
            return
        rows = -(-len(self._cells) // _COLUMNS)
        page = Image.new("RGB", (_COLUMNS * _WIDTH, rows * (_HEIGHT + _TEXT)), (32, 32, 32))
        pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
        for number, (image, text) in enumerate(self._cells):
            x, y = number % _COLUMNS * _WIDTH, number // _COLUMNS * (_HEIGHT + _TEXT)
            inset = (_WIDTH - image.shape[1]) // 2, (_HEIGHT - image.shape[0]) // 2
            page.paste(Image.fromarray(image), (x + inset[0], y + inset[1]))
            while text and pen.textlength(text, font) > _WIDTH - 8:
                text = "..." + text[4:]  # names of files differ at their end
            pen.text((x + 4, y + _HEIGHT + 2), text, (230, 230, 230), font)
        file = io.BytesIO()
        page.save(file, "JPEG", quality=85)
        self._store.put(f"review/sheet-{self._next:04}.jpg", file.getvalue())
        self._next += 1
        self._cells = []
