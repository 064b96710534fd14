"""Every figure that the project draws, one file a subject. Needs matplotlib (extra `eval`)."""
