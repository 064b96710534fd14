"""Recipe: everything that makes a training run, as one tree of frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from facefind.learn.criterion_config import CriterionConfig

if TYPE_CHECKING:
    from facefind.nn.detector import DenseDetector


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Base of each system's configuration: the numbers a network is built from."""

    system: ClassVar[str] = ""

    def build(self) -> DenseDetector:
        """The network with fresh weights."""
        raise TypeError(f"{type(self).__name__} is a base class; use a system's own configuration")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images are learned from and how they are drawn."""

    root: tuple[str, ...] = ()
    """Training sets: folders or label files in any layout that `facefind.datasets.read` knows;
    `partial:PATH` where pictures may show unlabeled faces, so that nothing in them counts as
    background."""
    hold_out: float = 0.1
    """Fraction of the first set, chosen by a hash of the image names, kept for evaluation."""
    balance: float = 0.0
    """How much rare groups (WIDER FACE events) gain: 0 as they are, 1 every group alike."""
    cache: Path | None = None
    """Folder for decoded images; they take 3 bytes a pixel there and no time to decode again."""
    workers: int = 2
    """Processes that load and augment."""


@dataclass(frozen=True, kw_only=True)
class ResizedConfig:
    """Whole images at one of several scales, sometimes a part of them (SmallHardFace, sec. 3.3).

    They differ in size: a batch is padded to the right and below with the crop's `fill`, and each
    target tells its image's own size.
    """

    short_sides: tuple[int, ...] = (400, 800, 1200)
    """Sides that the shorter one of the image is resized to, in pixels; one is drawn."""
    long_side: int = 2000
    """Most that the longer side may come to; such an image is resized to less."""
    cut: float = 0.5
    """Probability that only a part is kept; it holds the center of a face."""
    least: float = 0.6
    """Least width and height of a part, as fractions of the image's; each is drawn up to 1."""
    multiple: int = 16
    """The padded width and height are multiples of this."""
    color_first: bool = False
    """Whether colors change before the resizing, as in the authors' code, not after the cut."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How a training image is cut, colored and flipped."""

    crop: Literal["square", "resized"] = "square"
    """A square window resized to one size, told by the fields up to `clip_boxes`; or the image
    itself resized, told by `resized`."""
    size: int = 640
    """Side of the square that the network is given, in pixels."""
    crop_sides: tuple[float, ...] = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
    """Sides of the square crop as multiples of the image's short side (SCRFD, sec. 4.1 and 5.1)."""
    hold: Literal["center", "face"] = "center"
    """What a window holds: the center of a face; or, as in a PyTorch port of RetinaFace, all of
    one, and where no window does, the whole image on a square of `fill`."""
    background: float = 0.0
    """Probability that a crop is taken wherever it falls, face or not."""
    fill: tuple[int, int, int] = (123, 117, 104)
    """RGB where a crop reaches beyond the image; by default the mean color of ImageNet."""
    clip_boxes: bool = True
    """Whether boxes end at the crop's border; the released code of some SCRFDs lets them pass."""
    resized: ResizedConfig = field(default_factory=ResizedConfig)
    """Scales and parts, where `crop` is resized."""
    color: bool = True
    """Whether colors change."""
    jitter: Literal["ssd", "ssd-float", "mild", "brightness"] = "ssd"
    """How they change: SSD's distortion on 8 bits, or without rounding between its steps;
    brightness, contrast and saturation by an eighth, or brightness alone, as in RetinaFace's
    released code."""
    channel_shuffle: bool = False
    """Whether `ssd` also swaps color channels, as the released code of SCRFD does."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    min_face: float = 0.0
    """Faces with a side below this, in pixels after the crop, are ignored instead of learned."""


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that learn faster or slower, or decay less, than the others.

    Where several groups hold a parameter, their factors multiply.
    """

    part: str
    """Dotted name of a module or parameter; it stands for all within, and `*` for any text:
    `backbone`, `head.*.bias`, `*.bias`."""
    lr: float = 1.0
    """Factor of the learning rate."""
    decay: float = 1.0
    """Factor of the weight decay."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    """Peak learning rate."""
    accumulate: int = 1
    """Parts that a step's batch is run in, one after another; the gradient is their mean."""
    groups: tuple[ParameterGroup, ...] = ()
    """Parts of the network with a rate or weight decay of their own."""
    frozen: tuple[str, ...] = ()
    """Parts of the network that stay as they are, their batch normalization included; named as in
    `ParameterGroup`."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """Not applied to normalization and biases when `name` is adamw."""
    clip: float = 35.0
    """Largest norm of the gradient; 0: no clipping."""
    ema: float = 0.0
    """Decay of the averaged weights that are evaluated and exported; 0: no averaging."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How long and with which learning rate."""

    epochs: float = 640.0
    batch: int = 32
    """Images a step, over all processes and the parts of `OptimConfig.accumulate`."""
    warmup_epochs: float = 3.0
    warmup_factor: float = 0.001
    kind: Literal["step", "cosine"] = "step"
    steps: tuple[float, ...] = (440 / 640, 544 / 640)
    """Fractions of the run at which the rate falls tenfold (kind `step`)."""
    final: float = 0.01
    """Fraction of the peak rate at the end (kind `cosine`)."""


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Hard image mining: images that are found easy are seen less often (SmallHardFace)."""

    on: bool = False
    """Whether easy images are left out at all."""
    threshold: float = 0.85
    """An image is easy when all of its positive anchors score above this."""
    skip: float = 0.7
    """Probability that a pass through the set leaves an easy image out."""
    sticky: bool = False
    """Whether an image once easy stays so, as in the authors' code, not as last seen."""
    no_positives: Literal["easy", "hard", "keep"] = "keep"
    """What an image becomes in whose crop no anchor is positive; the authors' code: easy."""
    shared: bool = False
    """Whether all processes walk one list; otherwise, as in the paper, each has its own marks."""
    lag: int = 32
    """Batches between an image's being seen and its mark's counting; loading may run ahead as
    far."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Machine and bookkeeping."""

    out: Path | None = None
    """Run folder; by default runs/<recipe>."""
    begin: Path | None = None
    """Weights to begin with, not random ones: a run or checkpoint of the same network, or of it
    without some of its branches (points, mesh), which then begin at random; or a torch
    file of its backbone's alone, such as torchvision's for ImageNet."""
    device: str = "auto"
    """cpu, cuda, cuda:N, or auto: the GPU where there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    threads: int | None = None
    """Torch's CPU threads; None: its own choice."""
    seed: int = 0
    log_every: int = 20
    """Steps between log lines."""
    checkpoint_every: float = 120.0
    """Seconds between checkpoints."""
    evaluate_every: float = 0.0
    """Epochs between evaluations on the held-out images; 0: only at the end."""
    evaluate_images: int = 300
    """Held-out images used at each evaluation; 0: all."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run: a paper's table row, or a variant made with `dataclasses.replace`."""

    name: str
    network: NetworkConfig
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    run: RunConfig = field(default_factory=RunConfig)
    protocol: str = "vga"
    """Test protocol of the evaluations, by name."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        from dataclasses import asdict

        plain: dict[str, Any] = _plain(asdict(self))
        return plain | {"system": self.network.system}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
