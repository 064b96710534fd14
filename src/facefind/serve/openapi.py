"""What /openapi.json says of bodies and answers, with examples."""

from __future__ import annotations

from typing import Any

from facefind.serve.options import AlignOptions, DetectOptions, RedactOptions

__all__ = ["ALIGN", "DETECT", "MODELS", "REDACT"]

_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_KINDS = ("image/jpeg", "image/png", "image/webp")
_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
        },
    }
}
_BODY = {
    "required": True,
    "description": "A picture as it is in its file, or a form with parts called file.",
    "content": {
        **dict.fromkeys(("image/*", "application/octet-stream"), _PICTURE),
        "multipart/form-data": _FORM,
    },
}

_BOXES = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
_POINTS = {"type": ["array", "null"], "items": _BOXES}
_NAMED = {"image": {"type": "string"}, "width": {"type": "integer"}, "height": {"type": "integer"}}
_FOUND = {
    "type": "object",
    "description": "A line of `facefind detect --out faces.jsonl`: boxes are left, top, right and "
    "bottom in pixels of the upright picture, landmarks five points x, y.",
    "properties": {
        **_NAMED,
        "boxes": _BOXES,
        "scores": {"type": "array", "items": {"type": "number"}},
        "landmarks": _POINTS,
        "mesh": _POINTS,
    },
}
_FAILED = {
    "type": "object",
    "description": "In place of a picture that could not be read.",
    "properties": {name: {"type": "string"} for name in ("image", "error", "kind")},
}
_CUT = {
    "type": "object",
    "properties": {**_NAMED, "crops": {"type": "array", "items": {"type": "object"}}},
}


def _lines(line: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    head = {"version": 1, "model": "scrfd-2.5g-kps", "protocol": "everyday"}
    properties: dict[str, Any] = {
        "version": {"type": "integer"},
        "model": {"type": "string"},
        "protocol": {"type": "string"},
        "images": {"type": "array", "items": {"oneOf": [line, _FAILED]}},
    }
    return {
        "schema": {"type": "object", "properties": properties},
        "example": head | {"images": [example]},
    }


def _answers(content: dict[str, Any]) -> dict[str, Any]:
    error = {
        "error": {
            "code": "overloaded",
            "message": "64 pictures are being served, and at most 64 may be: send the request "
            "again later",
            "request_id": "6f1c0a",
        }
    }
    words = {
        "400": "No picture, or a malformed form.",
        "401": "The token is missing or wrong.",
        "404": "There is no such model.",
        "408": "The body came too slowly.",
        "413": "Too many bytes, pixels or pictures.",
        "415": "A kind or encoding of body that is not served.",
        "422": "An option out of its range, or no picture could be read.",
        "503": "No room now: Retry-After says in how many seconds.",
    }
    refused = {"application/json": {"schema": {"type": "object"}, "example": error}}
    return {
        "200": {"description": "What was found.", "content": content},
        **{status: {"description": text, "content": refused} for status, text in words.items()},
    }


_PICTURES = dict.fromkeys(_KINDS, _PICTURE)
_EXAMPLE: dict[str, Any] = {
    "image": "people.jpg",
    "width": 1024,
    "height": 768,
    "boxes": [[520.8055, 340.2334, 547.4059, 376.1682]],
    "scores": [0.795443],
    "landmarks": [[[523.0, 352.4], [531.4, 352.5], [522.4, 359.1], [524.3, 366.7], [530.4, 366.5]]],
}
_CROP: dict[str, Any] = {
    "face": 0,
    "score": 0.795443,
    "box": _EXAMPLE["boxes"][0],
    "landmarks": _EXAMPLE["landmarks"][0],
    "transform": [[2.9770703, -0.0167119, -1504.8087], [0.0167119, 2.9770703, -1006.9756]],
    "media": "image/png",
    "data": "iVBORw0KGgo...",
}

DETECT: dict[str, Any] = {
    "summary": "Find the faces of pictures",
    "description": "JSON of every picture, or one picture with its faces drawn where Accept says "
    "image/png, image/jpeg or image/webp.",
    "openapi_extra": {
        "parameters": DetectOptions.described(),
        "requestBody": _BODY,
        "responses": _answers({"application/json": _lines(_FOUND, _EXAMPLE), **_PICTURES}),
    },
}
REDACT: dict[str, Any] = {
    "summary": "Hide the faces of a picture",
    "description": "The picture without metadata, in its own format or the one that Accept says; "
    "X-Faces says how many faces were hidden, X-Lowest-Score how sure the least sure one is.",
    "openapi_extra": {
        "parameters": RedactOptions.described(),
        "requestBody": _BODY,
        "responses": _answers(_PICTURES),
    },
}
ALIGN: dict[str, Any] = {
    "summary": "Cut faces out, upright",
    "description": "Of every picture the crops as base64, each with its score, box, landmarks and "
    "the transform from the picture's pixels to the crop's.",
    "openapi_extra": {
        "parameters": AlignOptions.described(),
        "requestBody": _BODY,
        "responses": _answers(
            {
                "application/json": _lines(
                    _CUT, {"image": "people.jpg", "width": 1024, "height": 768, "crops": [_CROP]}
                )
            }
        ),
    },
}
MODELS: dict[str, Any] = {
    "summary": "List the models that are served",
    "description": "Of each its protocols, the default one and the threshold from which faces are "
    "shown, and whether it gives landmarks and meshes.",
}
