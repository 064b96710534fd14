"""Every row of the family and its baselines: counts, and shares of the backbone."""

import pytest
import torch

from facefind.nn.cost import measure
from facefind.systems.scrfd import BASELINES, FAMILY, ROWS

# Parameters, and multiply-adds of convolutions at 640x480, as computed from the published models.
PUBLISHED = {
    "scrfd-500m": (572_741, 0.478e9),
    "scrfd-500m-kps": (631_410, 0.550e9),
    "scrfd-1g": (635_565, 0.926e9),
    "scrfd-2.5g": (671_761, 2.498e9),
    "scrfd-2.5g-kps": (819_809, 2.571e9),
    "scrfd-10g": (3_860_225, 9.915e9),
    "scrfd-10g-kps": (4_229_905, 10.006e9),
    "scrfd-34g": (9_802_737, 33.657e9),
    "mobilenet-0.5g": (378_829, 0.481e9),
    "resnet-2.5g": (1_624_709, 2.550e9),
    "resnet-10g": (6_851_069, 10.134e9),
    "resnet-34g": (25_928_301, 34.13e9),
    "resnet-34g-released": (24_814_189, 36.81e9),
}
# Rows without published counts: what ours are, frozen.
OURS = {
    "scrfd-1g-kps": (731_213, 1_034_731_200),
    "scrfd-1.3g": (435_253, 1_266_556_800),
    "scrfd-34g-kps": (11_758_657, 33_947_059_200),
    "mobilenet-1g": (632_893, 986_131_200),
    "resnet-1.3g": (835_045, 1_277_068_800),
}
# Table 4 of the paper: parameters in millions, multiply-adds in 1e9. The code's counter adds
# biases, normalization, activations and pooling: 1 to 6 % more than convolutions alone.
TABLE_4 = {
    "resnet-34g": (None, 34.16),
    "resnet-34g-released": (24.81, None),
    "scrfd-34g": (9.80, 34.13),
    "resnet-10g": (6.85, 10.18),
    "scrfd-10g": (3.86, 9.98),
    "resnet-2.5g": (1.62, 2.57),
    "scrfd-2.5g": (0.67, 2.53),
    "mobilenet-0.5g": (0.37, 0.507),
    "scrfd-500m": (0.57, 0.508),
}


@pytest.fixture(scope="module", params=list(ROWS))
def row(request):
    return request.param


@pytest.fixture(scope="module")
def cost(row):
    with torch.device("meta"):
        return measure(ROWS[row].build(), 480, 640)


def test_every_row_has_its_counts():
    assert ROWS == FAMILY | BASELINES
    assert ROWS.keys() == PUBLISHED.keys() | OURS.keys()


def test_counts(row, cost):
    if row in OURS:
        assert (cost.parameters, cost.multiply_adds) == OURS[row]
    else:
        parameters, multiply_adds = PUBLISHED[row]
        assert cost.parameters == parameters
        assert cost.multiply_adds == pytest.approx(multiply_adds, rel=0.002)
    assert sum(part["multiply_adds"] for part in cost.parts.values()) == cost.multiply_adds


def test_table_4(row, cost):
    parameters, multiply_adds = TABLE_4.get(row, (None, None))
    if parameters is not None:
        assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.01)
    if multiply_adds is not None:
        assert 0.93 < cost.multiply_adds / 1e9 / multiply_adds < 1


def shares(row):
    with torch.device("meta"):
        parts = measure(ROWS[row].build().backbone, 480, 640).parts
    whole = sum(part["multiply_adds"] for part in parts.values())
    return {name: 100 * part["multiply_adds"] / whole for name, part in parts.items()}


@pytest.mark.parametrize(
    ("row", "percent"), [("scrfd-2.5g", 89.7), ("scrfd-10g", 87.4), ("scrfd-34g", 90.0)]
)
def test_the_paper_s_shares(row, percent):
    """Stem, C2 and C3 take the "around 80 %" of a backbone (sec. 4.2, fig. 6), and more."""
    share = shares(row)
    assert share["stem"] + share["layer1"] + share["layer2"] == pytest.approx(percent, abs=0.1)


def test_the_mobile_row_spends_most_on_its_last_stage():
    share = shares("scrfd-500m")
    assert max(share, key=share.get) == "layer4"
    assert share["layer4"] == pytest.approx(38.0, abs=0.1)
