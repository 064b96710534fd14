"""Published measuring protocols, one file each; nothing here needs torch.

`wider` (WIDER FACE), `fddb`, `voc` (AFW and PASCAL faces), `landmarks` (NME, AFLW2000-3D),
`verification` (LFW, CFP, AgeDB, IJB); `detections` reads and writes files, `report` draws.
"""

from __future__ import annotations

from facefind.evaluation import detections, fddb, landmarks, report, verification, voc, wider

__all__ = ["detections", "fddb", "landmarks", "report", "verification", "voc", "wider"]
