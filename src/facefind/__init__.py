"""facefind: face detectors that can be trained, measured, exported and served."""

__version__ = "0.1.0"
