"""Recipe: everything that makes a training run, as one tree of frozen dataclasses.

The command line is made from it: a field is the option `--data.workers`, or, where it says so, a
short one (`--data`, `--out`). Nothing here imports torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from facefind.images import MAX_PIXELS, Truncated
from facefind.learn.criterion_config import CriterionConfig
from facefind.nn import genotypes

if TYPE_CHECKING:
    from facefind.nn.detector import DenseDetector


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Base of each system's configuration: the numbers a network is built from.

    Where a system has them, `pyramid` and `context` name its feature modules (`nn.features`).
    """

    system: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Files of genotypes are read: what is built of a recipe must not need them again."""
        kinds = {"pyramid": genotypes.PyramidGenotype, "context": genotypes.ContextGenotype}
        for name, kind in kinds.items():
            value = getattr(self, name, None)
            if isinstance(value, str):
                object.__setattr__(self, name, genotypes.inline(value, kind))

    def build(self) -> DenseDetector:
        """The network with fresh weights."""
        raise TypeError(f"{type(self).__name__} is a base class; use a system's own configuration")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images are learned from and how they are drawn."""

    root: Annotated[tuple[str, ...], arg(name="data", prefix_name=False, metavar="SET ...")] = ()
    """Labeled sets to train on: folders or label files in any layout that
    `facefind.datasets.read` knows, with its options behind the path as in `PATH,images=DIR`;
    `partial:PATH` where pictures may show unlabeled faces, so that nothing in them counts as
    background."""
    val: Annotated[tuple[str, ...], arg(name="val", prefix_name=False, metavar="SET ...")] = ()
    """Labeled sets to evaluate on, in place of `hold_out`; the `val` images of a `data.yaml` where
    not given."""
    hold_out: float = 0.1
    """Fraction of the first set that is not `partial:`, chosen by a hash of the image names, kept
    for evaluation; without effect where there are `val` sets."""
    balance: float = 0.0
    """How much rare groups (WIDER FACE events) gain: 0 as they are, 1 every group alike."""
    cache: Annotated[
        str | None, arg(name="cache", prefix_name=False, metavar="auto|device|host|FOLDER")
    ] = None
    """Where decoded images are kept: on the network's device (`device`, 4 bytes a pixel), where the
    crops are then made as well; in memory that the loading processes share (`host`, 3 bytes), or in
    a folder, for later runs too; `auto`: on an accelerator or on the host, where they fit; None:
    each is decoded whenever it is used."""
    workers: int | None = 2
    """Processes that load and augment; None: one for each processor core, at most 8."""
    max_pixels: int = MAX_PIXELS
    """Images of more pixels are left out, with a warning."""
    truncated: Truncated = "error"
    """What becomes of JPEG files that lack their end: an `error` leaves them out with a warning,
    `fill` puts gray in place of it."""


@dataclass(frozen=True, kw_only=True)
class ResizedConfig:
    """Whole images at one of several scales, sometimes a part of them (SmallHardFace, sec. 3.3).

    They differ in size: a batch is padded to the right and below with the crop's `fill`.
    """

    short_sides: tuple[int, ...] = (400, 800, 1200)
    """Lengths in pixels that the shorter side of the image is resized to; one is drawn."""
    long_side: int = 2000
    """Maximum of the longer side in pixels; a longer image is resized to it."""
    crop_prob: float = 0.5
    """Probability that the resized image is cropped; the crop holds the center of a face."""
    min_crop: float = 0.6
    """Minimum width and height of a crop as fractions of the image's; each is drawn up to 1."""
    multiple: int = 16
    """The padded width and height are multiples of this."""
    color_first: bool = False
    """Whether colors change before the resizing, as in the authors' code, not after the crop."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a run whose crops have a size of their own; `0.35:448` on the command line."""

    until: float
    """Fraction of the run at which it ends, 0..1."""
    size: int
    """Side of the network's square input in pixels."""

    @classmethod
    def parse(cls, text: str) -> Phase:
        """The phase that `UNTIL:SIZE` names."""
        until, _, size = text.partition(":")
        return cls(until=float(until), size=int(size))

    def __str__(self) -> str:
        return f"{self.until:g}:{self.size}"


_PHASE = PrimitiveConstructorSpec(
    nargs=1,
    metavar="UNTIL:SIZE",
    instance_from_str=lambda args: Phase.parse(args[0]),
    is_instance=lambda value: isinstance(value, Phase),
    str_from_instance=lambda phase: [str(phase)],
)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How a training image is cropped, colored and flipped."""

    crop: Literal["square", "resized"] = "square"
    """A square window resized to one size, configured by the fields up to `clip_boxes`; or the
    image itself resized, configured by `resized`."""
    size: int = 640
    """Side of the network's square input in pixels."""
    phases: tuple[Annotated[Phase, _PHASE], ...] = ()
    """Other sizes at first, each until its fraction of the run; then `size`. The sides of the crops
    change with them, so that faces stay as large: smaller crops are less work."""
    crop_sides: tuple[float, ...] = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
    """Sides of the square crop as multiples of the image's short side (SCRFD, sec. 4.1 and 5.1)."""
    crop_policy: Literal["face-center", "whole-face", "anchor"] = "face-center"
    """What a crop must contain: the center of a face; or, as in a PyTorch port of RetinaFace, a
    whole face, and where no crop does, the whole image on a square of `fill`; or, as in DSFD, with
    probability `anchor_prob` a face at the size of an anchor, else the center of one."""
    anchor_prob: float = 0.4
    """Policy `anchor`: probability of a crop that brings a face to the size of an anchor."""
    anchor_sides: tuple[float, ...] = (16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
    """Policy `anchor`: sizes in pixels that a face is brought to, small to large."""
    anchor_above: int = 1
    """Policy `anchor`: how many of them may be larger than the nearest to the face; in the text of
    DSFD all, 5."""
    anchor_octaves: float = 0.0
    """Policy `anchor`: by how many octaves at most the size then differs; PyramidBox: 1."""
    background: float = 0.0
    """Probability that a crop is taken wherever it falls, face or not."""
    fill: tuple[int, int, int] = (123, 117, 104)
    """RGB where a crop reaches beyond the image; by default the mean color of ImageNet."""
    clip_boxes: bool = True
    """Whether boxes end at the crop's border; the released code of some SCRFDs lets them pass."""
    resized: ResizedConfig = field(default_factory=ResizedConfig)
    """Scales and crops, where `crop` is resized."""
    color: bool = True
    """Whether colors change."""
    jitter: Literal["ssd", "ssd-float", "mild", "brightness"] = "ssd"
    """How they change: SSD's distortion on 8 bits, or without rounding between its steps;
    brightness, contrast and saturation by an eighth, or brightness alone, as in RetinaFace's
    released code."""
    hue: float = 18.0
    """Degrees by which `ssd` and `ssd-float` turn hues at most: 18 as SCRFD's code; S3FD's and the
    PyTorch port of RetinaFace turn by 18 steps of OpenCV's 8 bits, which are 36 degrees."""
    channel_shuffle: bool = False
    """Whether `ssd` also swaps color channels, as the released code of SCRFD does."""
    dark: float = 0.0
    """Probability that a crop is darkened, after its colors have changed: gamma, a part of the
    light, noise."""
    gray: float = 0.0
    """Probability that a crop is made gray, after that."""
    turned: float = 0.0
    """Probability that a crop is turned by 90, 180 or 270 degrees, each alike."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    min_face: float = 0.0
    """Faces with a side below this, in pixels after the crop, are ignored instead of learned."""

    def at(self, size: int) -> AugmentConfig:
        """The same for square inputs of another side: crops shrink with it, so that faces stay as
        large.
        """
        sides = tuple(side * size / self.size for side in self.crop_sides)
        return replace(self, size=size, crop_sides=sides)


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that learn faster or slower, or decay less, than the others.

    Where several groups hold a parameter, their factors multiply.
    """

    part: str
    """Dotted name of a module or parameter; it includes all within, and `*` matches any text:
    `backbone`, `head.*.bias`, `*.bias`."""
    lr: float = 1.0
    """Factor of the learning rate."""
    decay: float = 1.0
    """Factor of the weight decay."""
    optional: bool = False
    """Whether a network without such a part is trained all the same, not an error."""


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
    minutes: float | None = None
    """Minutes of training after which the run is over; None: after `epochs`. Rate and crop sizes
    then follow the clock, the warm-up is as large a part of the time as of the epochs. Counted from
    the first batch on; evaluations and the writing of checkpoints are not."""
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
    """Whether easy images are skipped at all."""
    threshold: float = 0.85
    """An image is easy when all of its positive anchors score above this."""
    skip: float = 0.7
    """Probability that a pass through the set skips an easy image."""
    sticky: bool = False
    """Whether an image once easy stays so, as in the authors' code, not as last seen."""
    no_positives: Literal["easy", "hard", "keep"] = "keep"
    """What an image becomes in whose crop no anchor is positive; the authors' code: easy."""
    shared: bool = False
    """Whether all processes share one list; otherwise, as in the paper, each has its own marks."""
    lag: int = 32
    """Batches after which an image's score changes its mark; loading may run ahead as far."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Machine and bookkeeping."""

    out: Annotated[Path | None, arg(name="out", prefix_name=False, metavar="FOLDER")] = None
    """Run folder; by default runs/<recipe>."""
    init_from: Annotated[
        str | None, arg(name="init-from", prefix_name=False, metavar="MODEL|RUN|FILE")
    ] = None
    """Weights to start from instead of random ones: the name of a model that ships, a run folder,
    or a file (.pt, .safetensors, .onnx of ours, published files) of the same network, or of it
    without some of its branches (landmarks, mesh) or with another neck or context, which then start
    at random; or a torch file of its backbone alone, such as torchvision's for ImageNet."""
    device: Annotated[
        str, arg(name="device", prefix_name=False, metavar="auto|cpu|cuda[:N]|mps")
    ] = "auto"
    """Where the network is trained; auto: the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Numbers that convolutions compute with; auto: bf16 where the device has it, else fp32."""
    channels_last: bool = True
    compile: bool = False
    """Whether the network is compiled by torch.compile on a single CUDA GPU: steps are faster, but
    each crop size costs most of a minute before its first step, and a C compiler is needed."""
    graphs: bool = False
    """Whether steps on a single CUDA GPU are captured as CUDA graphs, so that the host need not
    launch their kernels one by one."""
    threads: int | None = None
    """Torch's CPU threads; None: torch's default."""
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
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))  # of paths
        return plain | {"system": self.network.system}
