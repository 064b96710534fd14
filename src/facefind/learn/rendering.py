"""Rendering: the drawn views of a whole batch, made from images on a device as tensor operations.

The pictures are those that `augment.render` makes one by one, within a level of 255 on average.

Legend: B views, H W sides of the batch, N pixels of all images on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facefind.learn.augment import View
from facefind.learn.jitter import LUMA
from facefind.learn.recipe import AugmentConfig
from facefind.nn.constants import constant

PLACE = (
    *("x_low", "x_extent", "x_count", "x_reversed"),
    *("y_low", "y_extent", "y_count", "y_reversed"),
    *("width", "height", "transposed"),
)
"""Numbers that place a view, lengths in pixels of the level that it is taken from: where its part
begins, how long it is, how many pixels of the result it gives, whether they run backwards; the
level's sides; whether rows and columns change places."""
COLORS = (
    *("gain", "bias", "saturation", "hue", "gain_after", "gamma", "light", "noise", "seed"),
    *("gray", "red", "green", "blue"),
)
"""Numbers of `jitter.Colors`; hue in sixths of the circle, a channel's number for red .. blue."""
MILD = 10
"""Numbers of `Colors.mild_affine`: a (3,3) matrix, row by row, and the share of the mean gray."""


def numbers(view: View, shrink: int, level_size: tuple[int, int]) -> list[float]:
    """The numbers that make a view's pixels.

    Args:
        view: what is shown of an original.
        shrink: how many pixels of the original one of the level spans.
        level_size: (h,w) of the level.
    """
    # Each quarter turn swaps the axes and reverses one of them; a flip reverses the one that
    # runs along the rows of the result.
    transposed = view.turns % 2 == 1
    x_reversed, y_reversed = view.turns in (1, 2), view.turns in (2, 3)
    if view.flip:
        x_reversed, y_reversed = x_reversed ^ (not transposed), y_reversed ^ transposed
    height, width = view.upright_size
    colors = view.colors
    matrix, share = colors.mild_affine()
    return [
        *(view.left / shrink, view.width / shrink, width, x_reversed),
        *(view.top / shrink, view.height / shrink, height, y_reversed),
        *(level_size[1], level_size[0], transposed),
        *(colors.gain, colors.bias, colors.saturation, colors.hue / 60, colors.gain_after),
        *(colors.gamma, colors.light, colors.noise, colors.seed),
        *(colors.gray, *colors.order),
        *(*matrix.flatten().tolist(), share),
    ]


def render(
    pixels: Tensor, start: Tensor, numbers: Tensor, size: tuple[int, int], config: AugmentConfig
) -> Tensor:
    """(B,H,W,3) uint8 RGB: each view on the upper left of its image, `config.fill` elsewhere.

    Colors change after the resizing, in recipes with `color_first` too.

    Args:
        pixels: (N,3) uint8.
        start: (B,) int64 row of `pixels` at which the view's level of its image begins.
        numbers: (B,N) float32, a row of `numbers` for each view.
        size: (H,W).
        config: the recipe's; which changes of color there may be.
    """
    place, colors, mild = torch.split(numbers, [len(PLACE), len(COLORS), MILD], 1)
    image = _sampled(pixels, start, place, size, config.fill)
    if config.color:
        if config.jitter in ("mild", "brightness"):
            image = _mixed(image, mild)
        else:
            image = _distorted(image, colors, rounded=config.jitter == "ssd")
        if config.channel_shuffle:
            order = colors[:, -3:].long()[:, None, None].expand_as(image)
            image = image.gather(-1, order)
    if config.dark:
        image = _darkened(image, colors)
    if config.gray:
        gray = (image.clamp(0, 255) * constant(LUMA, image)).sum(-1, keepdim=True)
        image = torch.where(colors[:, -4, None, None, None] > 0, gray, image)
    if config.crop == "resized":
        image = torch.where(_covered(place, size), image, constant(config.fill, image))
    return image.round().clamp(0, 255).to(torch.uint8)


def _covered(place: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,H,W,1) bool: what of each image of a batch its view covers."""
    width, height = place[:, PLACE.index("x_count")], place[:, PLACE.index("y_count")]
    swap = place[:, PLACE.index("transposed")] > 0
    width, height = torch.where(swap, height, width), torch.where(swap, width, height)
    rows = torch.arange(size[0], device=place.device) < height[:, None]
    columns = torch.arange(size[1], device=place.device) < width[:, None]
    return (rows[:, :, None] & columns[:, None])[..., None]


def _sampled(
    pixels: Tensor, start: Tensor, place: Tensor, size: tuple[int, int], fill: tuple[int, int, int]
) -> Tensor:
    """(B,H,W,3) float32 in 0..255: bilinear between the four nearest pixels, edges repeated."""
    named = dict(zip(PLACE, place[:, :, None].unbind(1), strict=True))
    centers = torch.arange(max(size), device=pixels.device) + 0.5  # of pixels along either side

    def axis(name: str, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two taps (B,2,L), whether each lies on the image, and the weight (B,L) of the second."""
        low, extent, count, backwards = (named[f"{name}_{part}"] for part in _AXIS)
        along = torch.where(backwards > 0, count - centers, centers)
        at = (along * (extent / count) - 0.5).clamp_min(0)
        at = low + torch.minimum(at, extent - 1)
        first = at.floor()
        taps = torch.stack([first, first + 1], 1)
        seen = (taps >= 0) & (taps < side[:, None]) & ((along > 0) & (along < count))[:, None]
        return torch.minimum(taps.clamp_min(0), side[:, None] - 1).long(), seen, at - first

    x, x_seen, x_weight = axis("x", named["width"])
    y, y_seen, y_weight = axis("y", named["height"])
    y = y * named["width"][:, None].long() + start[:, None, None]
    swap = named["transposed"] > 0
    row, row_seen = torch.where(swap[:, None], x, y), torch.where(swap[:, None], x_seen, y_seen)
    column = torch.where(swap[:, None], y, x)
    column_seen = torch.where(swap[:, None], y_seen, x_seen)
    row_weight = torch.where(swap, x_weight, y_weight)[:, : size[0], None, None]
    column_weight = torch.where(swap, y_weight, x_weight)[:, None, : size[1], None]
    beyond = constant(fill, place)

    def tap(i: int, j: int) -> Tensor:
        seen = row_seen[:, i, : size[0], None] & column_seen[:, j, None, : size[1]]
        found = pixels[row[:, i, : size[0], None] + column[:, j, None, : size[1]]].float()
        return torch.where(seen[..., None], found, beyond)

    upper = torch.lerp(tap(0, 0), tap(0, 1), column_weight)
    lower = torch.lerp(tap(1, 0), tap(1, 1), column_weight)
    return torch.lerp(upper, lower, row_weight)


_AXIS = ("low", "extent", "count", "reversed")


def _distorted(image: Tensor, colors: Tensor, *, rounded: bool) -> Tensor:
    """SSD's distortion; `rounded` cuts values to 0..255 between the steps, as on 8 bits."""
    gain, bias, saturation, hue, gain_after = colors[:, :5, None, None].unbind(1)
    image = image * gain[..., None] + bias[..., None]
    if rounded:
        image = image.clamp(0, 255)
    changed = (saturation != 1) | (hue != 0)
    turned = _hue_and_saturation(image.clamp(0, 255), hue, saturation)
    return torch.where(changed[..., None], turned, image) * gain_after[..., None]


def _hue_and_saturation(image: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """RGB by way of HSV: hue (B,1,1) added in sixths of the circle, saturation multiplied."""
    red, green, blue = image.unbind(-1)
    value, chroma = image.amax(-1), image.amax(-1) - image.amin(-1)
    least = chroma.clamp_min(1e-6)
    sixth = torch.where(
        value == red,
        (green - blue) / least,
        torch.where(value == green, (blue - red) / least + 2, (red - green) / least + 4),
    )
    chroma = torch.minimum(chroma * saturation, value)

    def channel(offset: float) -> Tensor:
        k = (sixth + hue + offset) % 6
        return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], -1)


def _darkened(image: Tensor, colors: Tensor) -> Tensor:
    """Images in little light, those that stay as they are included."""
    gamma, light, noise, seed = colors[:, 5:9, None, None, None].unbind(1)
    # A power of 1 is not exact, and what is not darkened has to stay as it is.
    dark = 255 * light * (image.clamp(0, 255) / 255) ** gamma + noise * _normal(seed.long(), image)
    return torch.where((gamma != 1) | (light != 1) | (noise != 0), dark, image)


def _normal(seed: Tensor, like: Tensor) -> Tensor:
    """Normal noise (B,H,W,3) by seeds (B,1,1,1), the same on every device and in a captured graph.

    A number of 32 bits is mixed from the place and the seed; the sum of its four bytes is normal
    enough. Values go as far as 3.45 deviations.
    """
    place = torch.arange(like[0].numel(), device=like.device).reshape(like.shape[1:])
    mixed = place * 40_503 + seed * 1_103_515_245
    for _ in range(3):
        mixed &= 0xFFFF_FFFF
        mixed = (mixed ^ (mixed >> 15)) * 739_982_445
    values = torch.stack([(mixed >> shift) & 255 for shift in (16, 24, 32, 40)])
    return (values.sum(0) - 510.0) / 147.8


def _mixed(image: Tensor, mild: Tensor) -> Tensor:
    """Each pixel times a matrix, plus a share of the mean gray of its view."""
    matrix, share = mild[:, :9].reshape(-1, 1, 1, 3, 3), mild[:, 9]
    gray = (image.mean((1, 2)) * constant(LUMA, image)).sum(-1) * share
    return (matrix @ image[..., None]).squeeze(-1) + gray[:, None, None, None]
