"""Detect the faces of two public-domain portraits and of a crowd made from them.

Usage: python examples/demo.py [FOLDER]

The images are NASA's portrait of Eileen Collins, from scikit-image, and the US Navy's portrait of
Grace Hopper, from matplotlib. They are written to FOLDER/images for the command `facefind detect`,
which draws the faces in FOLDER/drawn, and a mesh on each portrait in FOLDER/meshes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.cbook
import skimage.data
from PIL import Image

from facefind.cli import main

# Portraits in each row of the crowd, front row last.
ROWS = (48, 28, 16, 9, 5, 3)


def portraits() -> tuple[Image.Image, Image.Image]:
    """Eileen Collins and Grace Hopper."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = Image.open(file).convert("RGB")
    return Image.fromarray(skimage.data.astronaut()), hopper


def crowd(collins: Image.Image, hopper: Image.Image, width: int = 1280) -> Image.Image:
    """Rows of both in turn, `width` pixels wide: faces of 8 to 190 pixels."""
    people = (collins.crop((75, 0, 375, 300)), hopper.crop((40, 0, 472, 432)))
    heights = [width // count for count in ROWS]
    picture = Image.new("RGB", (width, sum(heights)))
    for row, count in enumerate(ROWS):
        for column in range(count):
            left, right = width * column // count, width * (column + 1) // count
            person = people[(column + row) % 2].resize((right - left, heights[row]))
            picture.paste(person, (left, sum(heights[:row])))
    return picture


def demo(folder: Path) -> int:
    """Exit code of `facefind detect` on the images, once they are written."""
    images, drawn = folder / "images", folder / "drawn"
    images.mkdir(parents=True, exist_ok=True)
    collins, hopper = portraits()
    pictures = {"collins": collins, "hopper": hopper, "crowd": crowd(collins, hopper)}
    for name, picture in pictures.items():
        picture.save(images / f"{name}.jpg", quality=92)
    code = 0
    for name in ("collins", "hopper"):
        print(f"\n{images / name}.jpg", flush=True)
        code |= main(["detect", str(images / f"{name}.jpg")])
    print(f"\n{images}, unscaled for the crowd's small faces", flush=True)
    code |= main(["detect", str(images), "--test-protocol", "full", "--draw", str(drawn)])
    print("\nthe portraits again, each with a mesh", flush=True)
    some = [str(images / f"{name}.jpg") for name in ("collins", "hopper")]
    meshes = ["--model", "retinaface-mobile", "--mesh", "--draw", str(folder / "meshes")]
    code |= main(["detect", *some, *meshes])
    print(f"\nDrawn: {', '.join(str(drawn / f'{name}.jpg') for name in pictures)}, {folder}/meshes")
    return code


if __name__ == "__main__":
    raise SystemExit(demo(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
