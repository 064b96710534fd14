"""Every network's frozen outputs: a change of names, shapes or arithmetic shows."""

import pytest
import torch
from golden.outputs import FROZEN_KEYS, ROWS, frozen_key, known, outputs

CASES = [(system, row) for system, rows in ROWS.items() for row in rows]


def test_every_row_is_frozen():
    assert {system: list(known(system)) for system in ROWS} == {s: list(r) for s, r in ROWS.items()}


@pytest.mark.parametrize(("system", "row"), CASES)
def test_golden_outputs(system, row):
    wanted, found = known(system)[row], outputs(ROWS[system][row])
    assert found.keys() == wanted.keys()
    assert found.pop("state") == wanted["state"], "names or shapes changed: checkpoints break"
    for name, values in found.items():
        assert values == pytest.approx(wanted[name], rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize(
    ("system", "row", "output"),
    [("scrfd", "scrfd-2.5g", "logits"), ("retinaface", "retinaface-mobile", "deltas")],
)
def test_a_change_of_the_network_shows(system, row, output, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "relu", torch.nn.functional.leaky_relu)
    monkeypatch.setattr(torch.Tensor, "relu", torch.Tensor.abs)
    found = outputs(ROWS[system][row])[output]
    assert found != pytest.approx(known(system)[row][output], rel=1e-3)


def test_renamed_keys_are_those_of_the_networks():
    """Each renamed beginning is in use, and leads to a name that no other entry has."""
    for system, rows in ROWS.items():
        with torch.device("meta"):
            networks = [list(config.build().state_dict()) for config in rows.values()]
        for now, _ in FROZEN_KEYS[system]:
            assert any(key.startswith(now) for keys in networks for key in keys)
        for keys in networks:
            assert len({frozen_key(system, key) for key in keys}) == len(keys)
