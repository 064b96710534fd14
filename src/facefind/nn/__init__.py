"""Torch parts that several systems are built from: backbones, necks, heads, anchors, coders."""
