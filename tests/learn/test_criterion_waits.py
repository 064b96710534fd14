"""The criterion never waits for the device, and does as much whatever the batch."""

from dataclasses import replace

import pytest
import torch
from kinds import KINDS, criterion
from random_outputs import SIDE, crowd, maps, random_output
from torch.utils._python_dispatch import TorchDispatchMode

from facefind.systems import retinaface
from facefind.systems.mesh.config import MeshConfig


class Recorder(TorchDispatchMode):
    """Every operation that runs, and what would wait for a device or compute in float64."""

    WAITS = (
        "_local_scalar_dense",
        "item",
        "nonzero",
        "masked_select",
        "unique",
        "_unique",
        "is_nonzero",
        "equal",
    )

    def __init__(self):
        super().__init__()
        self.operations, self.waits, self.doubles = [], [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        self.operations.append(name)
        if name.startswith(self.WAITS):
            self.waits.append(name)
        if name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        ):
            self.waits.append(f"{name} by a mask")
        if name == "repeat_interleave" and isinstance(args[0], torch.Tensor):
            self.waits.append(name)
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, tuple | list) else [found]:
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                self.doubles.append(name)
        return found


MESH = replace(
    retinaface.ROWS["retinaface-mobile"],
    dense=True,
    mesh=MeshConfig(size=16, max_anchors=4, landmarks=0.1, prior=0.01),
)
TRAINED = [
    "scrfd-500m-kps",
    "scrfd-simota",
    "retinaface-paper",
    "retinaface-released",
    "retinaface-authors",
    "smallhardface-full",
    "smallhardface-released",
    "asfd-d0",
    "mesh",
]


def learned(kind):
    """A network's criterion, and a function that makes its outputs for B images on a device."""
    network = MESH.build() if kind == "mesh" else KINDS[kind].build()
    made = retinaface.CRITERION.build(network) if kind == "mesh" else criterion(kind, network)
    extras = {"mesh": 144} if kind == "mesh" else {}

    def output(images, device=None):
        strides = network.strides
        anchors = network.anchors(maps(strides), device)
        logits = 1 if network.system == "scrfd" else 2
        found = random_output(anchors, network.coder, images, logits, **extras)
        if network.system == "smallhardface":
            found = replace(found, landmarks=None)
        return found

    return network, made, output


@pytest.fixture(scope="module", params=TRAINED)
def kind(request):
    return request.param


def test_as_many_operations_whatever_the_batch_and_none_that_waits(kind):
    network, made, output = learned(kind)
    allowed = []
    if kind == "mesh":  # the renderer lists the covered pixels, whose number it must know
        with Recorder() as alone:
            network.mesh.render(torch.zeros(4, 144), torch.tensor([[8.0, 8, 40, 40]] * 4), 16)
        allowed = alone.waits
        assert allowed
    seen = {}
    for images, faces in ((1, 0), (2, 3), (8, 60)):
        outputs, targets = output(images), crowd(images, faces)
        with Recorder() as recorder:
            losses = made(outputs, targets)
            sum(losses.terms.values()).backward()
        assert recorder.waits == allowed
        assert recorder.doubles == []
        # One image is flattened without a copy.
        layout = ("view", "_unsafe_view", "clone")
        seen[images, faces] = [name for name in recorder.operations if name not in layout]
    assert seen[1, 0] == seen[2, 3] == seen[8, 60]
    assert len(seen[1, 0]) > 100


def test_nothing_is_read_back_within_an_operation_either(kind):
    """As the gradient of `prod` does; a recorder in Python does not see that, a profiler does."""
    if kind == "mesh":
        pytest.skip("the renderer reads back how many pixels are covered")
    _, made, output = learned(kind)
    outputs, targets = output(2), crowd(2, 9)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        sum(made(outputs, targets).terms.values()).backward()
    names = {event.name.removeprefix("aten::") for event in profile.events()}
    assert "sigmoid" in names
    assert not {name for name in names if name.startswith(Recorder.WAITS)}


def test_the_recorder_sees_what_waits():
    mask = torch.tensor([True, False])
    with Recorder() as recorder:
        bool(mask.any())
        mask.nonzero()
        torch.ones(2)[mask]
        torch.ones(2).unique()
        torch.masked_select(mask, mask)
        torch.ones(2).double()
    kinds = {name.partition(" ")[0].rstrip("0123456789") for name in recorder.waits}
    assert {"nonzero", "index", "masked_select"} <= kinds
    assert any("unique" in name for name in recorder.waits)
    assert any(name in ("_local_scalar_dense", "is_nonzero") for name in recorder.waits)
    assert recorder.doubles


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_never_waited_for(kind):
    """In a whole step of training, images and targets being there already."""
    if kind == "mesh":
        pytest.skip("the renderer reads back how many pixels are covered")
    network, made, _ = learned(kind)
    device = torch.device("cuda")
    network.to(device).train()
    targets = crowd(4, 20).to(device)
    images = torch.full((4, 3, SIDE, SIDE), 90, dtype=torch.uint8, device=device)

    def step():
        losses = made(network(images), targets)
        sum(losses.terms.values()).backward()

    step()  # what is made once, as cuDNN's plans, may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_loss_is_the_same_on_padded_targets(kind):
    """Faces without area, as where shapes must not change from step to step, change nothing."""
    _, made, output = learned(kind)
    outputs, targets = output(2), crowd(2, 5)
    padded = replace(
        targets,
        boxes=torch.cat([targets.boxes, torch.zeros(3, 4)]),
        landmarks=torch.cat([targets.landmarks, torch.zeros(3, 5, 2)]),
        visible=torch.cat([targets.visible, torch.zeros(3, 5, dtype=torch.bool)]),
        image=torch.cat([targets.image, torch.tensor([0, 1, 1])]),
    )
    plain, other = made(outputs, targets), made(outputs, padded)
    for name, term in plain.terms.items():
        torch.testing.assert_close(other.terms[name], term, msg=name)
    torch.testing.assert_close(other.min_positive_scores, plain.min_positive_scores, equal_nan=True)


def test_padded_labels_change_nothing(kind):
    _, made, output = learned(kind)
    found = []
    for targets in (crowd(2, 9), crowd(2, 9).padded()):
        outputs = output(2)
        losses = made(outputs, targets)
        sum(losses.terms.values()).backward()
        gradients = [outputs.logits.grad, outputs.boxes.grad]
        found.append([*losses.terms.values(), losses.min_positive_scores, *gradients])
    for plain, padded in zip(*found, strict=True):
        torch.testing.assert_close(padded, plain)
