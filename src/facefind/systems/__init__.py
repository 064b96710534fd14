"""The detectors, one paper a file."""
