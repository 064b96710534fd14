"""Video: faces followed from frame to frame, and tracks without gaps."""
