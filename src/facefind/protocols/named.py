"""The test protocols of the five papers and of everyday use, one description each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from facefind.protocols import asfd, dsfd
from facefind.protocols.rules import Pass, ShortSide, TestProtocol

VGA = TestProtocol(name="vga", min_score=0.02)
"""One pass at a long side of 640, all scores from 0.02, NMS at 0.45.

Source: SCRFD, sec. 5.1 (Testing); score floor and NMS threshold as in the authors' configurations.
Differs: the authors pad all images to 640x640, here the short side is padded to a multiple of 32.
Of more than 5000 boxes only the best reach suppression; theirs takes all.
"""

ORIGINAL = replace(VGA, name="original", sizes=(None,))
"""`vga` on the unscaled image.

Source: SCRFD, released code, test mode 2.
"""

FULL = TestProtocol(name="full", sizes=(None,))
"""`original` with the card's threshold, to use rather than to measure.

Source: ours.
"""

EVERYDAY = TestProtocol(
    name="everyday", sizes=(640, Pass(size=160, square=True, min_input_size=64))
)
"""A long side of 640, and a small pass for faces that fill the image; the default.

At 640 a network does not see enough of a face that is wider than about half of the image; at 160 it
sees it whole. The small pass adds only faces of more than 64 of its pixels, two fifths of the long
side: what it says of smaller ones is worse than what the large pass says. It is padded to a
square, so that a runtime prepares itself for it but once, whatever images come.

Source: ours; insightface 1.0 joins 640 and 128 to the same end, without a limit. Sizes and limit
were chosen by `benchmarks/close_ups.py` on training images that were held out.
"""

SCRFD_1650 = replace(VGA, name="scrfd-1650", sizes=(ShortSide(1100, 1650),))
"""One pass at the largest size whose short side is at most 1100 and whose long side at most 1650.

Source: SCRFD, released code, test mode 1 ("for single scale in other pages").
Differs: the authors pad to 1100 high and 1650 wide, which no portrait image fits.
"""

TINAFACE = replace(SCRFD_1650, name="tinaface", min_score=0.01)
"""`scrfd-1650` with all scores from 0.01.

Source: SCRFD, sec. 3 and table 1 ("1650"); scores and NMS as in TinaFace's released configuration.
"""

TINAFACE_ORIGINAL = replace(TINAFACE, name="tinaface-original", sizes=(None,))
"""`tinaface` on the unscaled image.

Source: SCRFD, sec. 3 and table 1 ("Original").
"""

TINAFACE_MULTISCALE = replace(
    TINAFACE,
    name="tinaface-multiscale",
    sizes=(ShortSide(500), ShortSide(800), ShortSide(1100), ShortSide(1400), ShortSide(1700)),
    flip=True,
    shifts=((0, 0), (0, 1), (1, 0), (1, 1)),
    max_candidates=None,
)
"""Five short sides, each at four shifts, each also mirrored: 40 passes.

Source: SCRFD, sec. 3 and table 1 ("Multi-scale"), whose cost of 42334 G speaks for 40 passes over
every image, though the text may be read as if only large images had them.
Differs: how far an image is shifted and how passes are merged is not said, and no code is released:
here one pixel, as written, and the NMS of the single pass.
"""

RETINAFACE = TestProtocol(
    name="retinaface",
    sizes=(ShortSide(500), ShortSide(800), ShortSide(1100), ShortSide(1400), ShortSide(1700)),
    flip=True,
    min_score=0.02,
    voting=0.4,
    max_candidates=None,
)
"""Five short sides, each also mirrored, merged by box voting at 0.4.

Source: RetinaFace, sec. 4.2 (Testing Details); score floor as in the released code.
Differs: see `retinaface-released`.
"""

RETINAFACE_RELEASED = replace(
    RETINAFACE,
    name="retinaface-released",
    sizes=(
        ShortSide(500, 750),
        ShortSide(800, 1200),
        ShortSide(1100, 1650),
        ShortSide(1400, 2100),
        ShortSide(1700, 2550),
    ),
    singletons="last",
    plus_one=True,
    rounding="sides",
    max_faces=750,
)
"""`retinaface` as the released code makes it (test mode 1).

Source: insightface, detection/retinaface, test_widerface.py and retinaface.py.
Differs: from the paper in that the long side is at most 1.5 times the named short side, boxes that
nothing else votes for are dropped, 750 faces are kept and whole pixels are written. From the code
in that mirrored boxes go back by x -> W - x, not W - x - 1, and landmarks are averaged with their
boxes where the code gives none. The code also halves the scores of stride 4, where a network has
it: that is the network's to do, for a protocol sees no strides.
"""

RETINAFACE_1600 = TestProtocol(
    name="retinaface-1600",
    sizes=(ShortSide(1600, 2150),),
    min_score=0.02,
    nms_iou=0.4,
    plus_one=True,
    rounding="sides",
    max_candidates=None,
)
"""One pass at a short side of 1600 and a long side of at most 2150, NMS at 0.4.

Source: insightface, detection/retinaface, test_widerface.py, test mode 0; the paper has none.
Differs: biubug6's port of it writes boxes by "corners".
"""

RETINAFACE_ORIGINAL = replace(
    RETINAFACE_1600, name="retinaface-original", sizes=(None,), rounding="corners"
)
"""`retinaface-1600` on the unscaled image.

Source: biubug6/Pytorch_Retinaface, test_widerface.py.
"""

SMALLHARDFACE = TestProtocol(
    name="smallhardface",
    sizes=(ShortSide(100), ShortSide(300), ShortSide(600), ShortSide(1000), ShortSide(1400)),
    flip=True,
    min_score=0.05,
    voting=0.4,
    max_candidates=None,
)
"""Five short sides, each also mirrored, merged by box voting.

Source: SmallHardFace, sec. 4.1; score floor and IoU as in the released code, for the paper names
none (PyramidBox, to which it refers, votes at 0.3).
Differs: see `smallhardface-released`.
"""

SMALLHARDFACE_RELEASED = replace(
    SMALLHARDFACE,
    name="smallhardface-released",
    sizes=(
        ShortSide(100, 150),
        ShortSide(300, 450),
        ShortSide(600, 900),
        ShortSide(1000, 1500),
        ShortSide(1400, 2100),
    ),
    pass_candidates=10_000,
    singletons="last",
    plus_one=True,
    rounding="corners",
)
"""`smallhardface` as the released code makes it.

Source: bairdzhang/smallhardface, lib/test.py and the configuration for WIDER FACE.
Differs: from the paper in that the long side is at most 1.5 times the named short side, boxes that
nothing else votes for are dropped, 10,000 boxes of a pass are looked at and whole pixels written.
"""

SMALLHARDFACE_FDDB = replace(
    SMALLHARDFACE_RELEASED,
    name="smallhardface-fddb",
    sizes=(ShortSide(50, 75), ShortSide(190, 285), ShortSide(390, 585)),
    rounding=None,
)
"""`smallhardface-released` at the three sizes for FDDB, with exact boxes.

Source: bairdzhang/smallhardface, the configuration for FDDB.
"""

SMALLHARDFACE_AFW = replace(
    SMALLHARDFACE_FDDB,
    name="smallhardface-afw",
    sizes=(
        ShortSide(50, 75),
        ShortSide(100, 150),
        ShortSide(200, 300),
        ShortSide(400, 600),
        ShortSide(600, 900),
    ),
)
"""`smallhardface-released` at the five sizes for AFW, with exact boxes.

Source: bairdzhang/smallhardface, the configuration for AFW.
Differs: the code also lowers each box's top by a fifth of its height, which is left to evaluation:
`facefind evaluate afw --top-shift 0.2`.
"""

SMALLHARDFACE_PASCAL = replace(
    SMALLHARDFACE_FDDB,
    name="smallhardface-pascal",
    sizes=(ShortSide(100, 150), ShortSide(300, 450)),
    flip=False,
)
"""`smallhardface-released` at the two sizes for PASCAL faces, unmirrored, with exact boxes.

Source: bairdzhang/smallhardface, the configuration for PASCAL faces.
Differs: as `smallhardface-afw`: `facefind evaluate pascal --top-shift 0.2`.
"""

PROTOCOLS: Mapping[str, TestProtocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            *(VGA, ORIGINAL, FULL, EVERYDAY, SCRFD_1650),
            *(TINAFACE, TINAFACE_ORIGINAL, TINAFACE_MULTISCALE),
            *(RETINAFACE, RETINAFACE_RELEASED, RETINAFACE_1600, RETINAFACE_ORIGINAL),
            *(SMALLHARDFACE, SMALLHARDFACE_RELEASED),
            *(SMALLHARDFACE_FDDB, SMALLHARDFACE_AFW, SMALLHARDFACE_PASCAL),
            *(*dsfd.PROTOCOLS, *asfd.PROTOCOLS),
        )
    }
)
"""Named protocols; each is described where it is made, above."""
