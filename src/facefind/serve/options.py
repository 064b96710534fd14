"""The options that requests have in their address, with the words of OpenAPI for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facefind.serve.errors import RequestError

__all__ = ["AlignOptions", "DetectOptions", "RedactOptions"]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, max_length=200, description="One of GET /v1/models; the default one if not given."
    )
    protocol: str | None = Field(
        None,
        max_length=200,
        description="How pictures are scaled and faces merged: one of the model's protocols.",
        examples=["everyday"],
    )
    score: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Leave out faces below it; the model's own threshold if not given.",
        examples=[0.5],
    )
    max_faces: int | None = Field(
        None, ge=1, le=100_000, description="Only the best so many faces of a picture."
    )

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """The options of an address.

        Raises:
            RequestError: one is not known, or out of its range.
        """
        try:
            return cls.model_validate(dict(query))
        except ValidationError as error:
            found = [
                f"{one['loc'][0]}={str(one['input'])[:100]!r}: {_said(one)}"
                for one in error.errors()
            ]
            raise RequestError(422, "bad-option", "; ".join(found)) from None

    @classmethod
    def described(cls) -> list[dict[str, Any]]:
        """The options as OpenAPI lists parameters of an address."""
        found = []
        for name, schema in cls.model_json_schema()["properties"].items():
            schema.pop("title", None)
            text = schema.pop("description", "")
            found.append({"name": name, "in": "query", "description": text, "schema": schema})
        return found


def _said(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such option, see /openapi.json"
    return str(error["msg"])


class DetectOptions(_Options):
    """Options of POST /v1/detect."""

    mesh: bool = Field(False, description="Find each face's mesh too, with a model that can.")
    labels: bool = Field(True, description="In an annotated picture, write the scores.")
    landmarks: bool = Field(True, description="In an annotated picture, draw the landmarks.")


class RedactOptions(_Options):
    """Options of POST /v1/redact, as of `facefind redact`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    method: Literal["blur", "pixelate", "fill"] = Field(
        "blur",
        alias="with",
        description="blur and pixelate leave an impression, fill (one color) leaves nothing.",
    )
    shape: Literal["ellipse", "box"] = Field(
        "ellipse", description="What is hidden: the ellipse in a face's box, or all of it."
    )
    grow: float | None = Field(
        None, ge=1, le=10, description="Times wider and higher than the box; 1.2, careful 1.5."
    )
    color: str = Field(
        "0,0,0",
        pattern=r"^\d{1,3},\d{1,3},\d{1,3}$",
        description="With fill: red, green and blue from 0 to 255.",
    )
    careful: bool = Field(
        False, description="Find more faces in several times the time; hides more that is no face."
    )


class AlignOptions(_Options):
    """Options of POST /v1/align, as of `facefind align`."""

    size: int = Field(112, ge=1, le=1024, description="Side of a crop in pixels.")
    faces: Literal["all", "largest"] = Field(
        "all", description="All faces of a picture, or the one with the largest box."
    )
    min_size: float = Field(
        0.0, ge=0, description="Leave out faces whose box has a shorter side, in pixels."
    )
    format: Literal["png", "jpg"] = Field(
        "png", description="png keeps the pixels as they are, jpg is smaller."
    )
