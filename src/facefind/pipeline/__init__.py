"""What the command line, a server and batch jobs call alike: images in, results out, resumable.

>>> from facefind import FaceDetector, pipeline
>>> detector = FaceDetector()
>>> settings = pipeline.detector_settings(detector)
>>> with pipeline.JsonLines("faces.jsonl", resume=True, settings=settings) as lines:
...     files = (file for file in pipeline.list_images(["photos"]) if file.name not in lines.names)
...     for result in pipeline.detect_files(detector, files):
...         if result.error is None:
...             lines.write(pipeline.to_record(result.source.name, result.faces))
"""

from facefind.outputs import check_distinct, check_outputs, distinct, output_path
from facefind.pipeline.crops import CropFolder, aligned_crops, check_landmarks
from facefind.pipeline.drawings import DrawingFolder, MeshFolder
from facefind.pipeline.kept import DetectorSettings, ExactFaces, KeptDetections, detect_labeled
from facefind.pipeline.meter import Meter
from facefind.pipeline.pictures import redact_bytes
from facefind.pipeline.redacted_videos import Hiding, redact_file, redact_stream
from facefind.pipeline.redacting import RedactedFolder
from facefind.pipeline.results import FORMATS, FormatName, ResultFile, format_of, open_results
from facefind.pipeline.resuming import detector_settings, image_folders
from facefind.pipeline.sinks import JsonLines, failure_record, reason, to_record, write_results
from facefind.pipeline.sources import Shard, detect_files, list_images, list_units, lists_quickly
from facefind.pipeline.stages import Stages
from facefind.pipeline.videos import FrameLines, detect_video, video_record, video_settings

__all__ = [
    "FORMATS",
    "CropFolder",
    "DetectorSettings",
    "DrawingFolder",
    "ExactFaces",
    "FormatName",
    "FrameLines",
    "Hiding",
    "JsonLines",
    "KeptDetections",
    "MeshFolder",
    "Meter",
    "RedactedFolder",
    "ResultFile",
    "Shard",
    "Stages",
    "aligned_crops",
    "check_distinct",
    "check_landmarks",
    "check_outputs",
    "detect_files",
    "detect_labeled",
    "detect_video",
    "detector_settings",
    "distinct",
    "failure_record",
    "format_of",
    "image_folders",
    "list_images",
    "list_units",
    "lists_quickly",
    "open_results",
    "output_path",
    "reason",
    "redact_bytes",
    "redact_file",
    "redact_stream",
    "to_record",
    "video_record",
    "video_settings",
    "write_results",
]
