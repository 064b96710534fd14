"""Videos: read and written, their faces found and followed from frame to frame.

>>> for frame in facefind.read_video("movie.mp4", track=True):
...     print(frame.index, float(frame.time), frame.faces.ids)
"""

from facefind.video.ahead import run_ahead
from facefind.video.detecting import Video, VideoFrame, read_video
from facefind.video.filling import Filler
from facefind.video.opening import SUFFIXES, is_stream, is_video
from facefind.video.reading import DecodedFrame, VideoReader
from facefind.video.tracking import Tracker, TrackerConfig
from facefind.video.tracks import Track, Tracks, filled, joined, tracks_of
from facefind.video.two_pass import track
from facefind.video.writing import VideoWriter

__all__ = [
    "SUFFIXES",
    "DecodedFrame",
    "Filler",
    "Track",
    "Tracker",
    "TrackerConfig",
    "Tracks",
    "Video",
    "VideoFrame",
    "VideoReader",
    "VideoWriter",
    "filled",
    "is_stream",
    "is_video",
    "joined",
    "read_video",
    "run_ahead",
    "track",
    "tracks_of",
]
