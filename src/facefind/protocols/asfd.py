"""The test protocols of ASFD: its paper's, that of one pass, and its authors' released code's."""

from __future__ import annotations

from dataclasses import replace

from facefind.protocols.dsfd import DSFD, DSFD_SINGLE, LIGHTDSFD

ASFD = replace(DSFD, name="asfd", rounding=None)
"""`dsfd` with exact boxes.

Source: ASFD, sec. 4.1 (NMS, 750 of 5000) and 4.3, whose pyramids follow DSFD; no code for them is
released.
"""

ASFD_SINGLE = replace(DSFD_SINGLE, name="asfd-single", rounding=None)
"""One pass on the unscaled image, `dsfd-single` with exact boxes.

Source: ASFD, sec. 4.1; table 4 omits "test-time multi-scale results".
"""

DSFDV2 = replace(LIGHTDSFD, name="dsfdv2", nms_iou=0.4, max_candidates=2000)
"""One pass on the unscaled image: NMS at 0.4 over the best 2000 boxes of scores over 0.05.

Source: DSFDv2, released by ASFD's authors (dataset/config.py, test_dsfdv2.py), which shows scores
from 0.8.
"""

PROTOCOLS = (ASFD, ASFD_SINGLE, DSFDV2)
