"""The test protocols of DSFD: its paper's, its released code's, and those of one pass."""

from __future__ import annotations

from dataclasses import replace

from facefind.protocols.rules import DsfdPyramid, Pass, TestProtocol

DSFD = TestProtocol(
    name="dsfd",
    sizes=(DsfdPyramid(),),
    min_score=0.01,
    pass_candidates=5000,
    pass_nms_iou=0.3,
    voting=0.3,
    rounding="outward",
    max_candidates=None,
    max_faces=750,
)
"""Multiples of the image's own size up to 3, as far as 10.7 megapixels allow, and one mirrored.

Each pass has NMS at 0.3 over its best 5000 boxes; small passes give only faces over 30 pixels,
large ones only faces under 100, and box voting at 0.3 merges them to at most 750.

Source: DSFD, sec. 4.1 (NMS, 750 of 5000, rounding) and 4.3 (a pyramid "similar" to
FAN's); the multiples, gates, voting and score floor as in the released code: the paper names none.
Differs: see `dsfd-released`.
"""

DSFD_RELEASED = replace(DSFD, name="dsfd-released", singletons="none", plus_one=True)
"""`dsfd` as the released code makes it.

Source: Tencent/FaceDetection-DSFD, widerface_val.py.
Differs: from the paper in that boxes that nothing else votes for are dropped, the very last too,
and 1 is added to widths and heights. From the code in that boxes are cut at the image's edges.
"""

DSFD_FDDB = replace(DSFD_RELEASED, name="dsfd-fddb", sizes=(Pass(flip=True),), min_score=0.05)
"""`dsfd-released` on the unscaled image, also mirrored, for FDDB.

Source: Tencent/FaceDetection-DSFD, fddb_test.py.
"""

DSFD_DEMO = replace(
    DSFD_RELEASED,
    name="dsfd-demo",
    sizes=(DsfdPyramid(max_pixels=2000 * 2000, max_scale=None, steps=(), extra=()),),
    rounding=None,
)
"""`dsfd-released` up to 4 megapixels and with fewer passes.

Source: Tencent/FaceDetection-DSFD, demo.py, which shows scores from 0.1.
"""

DSFD_SINGLE = TestProtocol(
    name="dsfd-single",
    sizes=(None,),
    min_score=0.01,
    nms_iou=0.3,
    rounding="outward",
    max_candidates=5000,
    max_faces=750,
)
"""One pass on the unscaled image: NMS at 0.3 over the best 5000 boxes, of which 750 are kept.

Source: DSFD, sec. 4.1, without the pyramid of sec. 4.3; score floor as in the released code.
"""

LIGHTDSFD = TestProtocol(
    name="lightdsfd",
    sizes=(None,),
    min_score=0.05,
    nms_iou=0.3,
    max_candidates=500,
)
"""One pass on the unscaled image: NMS at 0.3 over the best 500 boxes.

Source: lightDSFD, README.md and test.py.
Differs: the code writes boxes a pixel wider and higher.
"""

PROTOCOLS = (DSFD, DSFD_RELEASED, DSFD_FDDB, DSFD_DEMO, DSFD_SINGLE, LIGHTDSFD)
