import json

import numpy as np
import pytest
from PIL import Image

from facefind import cli
from facefind.mesh import Decoder, read_obj, write_obj
from facefind.systems.mesh.template import face_template
from facefind.systems.mesh.topology import simplify


def test_a_decoder_is_made_for_a_user_s_mesh(tmp_path, capsys):
    mesh, _ = simplify(face_template().mesh, 80)
    write_obj(mesh, tmp_path / "user.obj")
    out = tmp_path / "made" / "mine.npz"
    options = f"--template {tmp_path / 'user.obj'} --levels 1 --steps 3 --faces 40 --threads 1"
    assert cli.main(["mesh", "pretrain", str(out), *options.split()]) == 0
    assert "the average face" in capsys.readouterr().out
    decoder = Decoder.load(out)
    assert decoder(np.zeros((1, 128))).shape == (1, 80, 6)
    assert decoder.landmarks is None
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["levels"] == [80, 20]
    assert card["name"] == "mine"
    assert card["results"]["decoder"]["position"] > 0
    shown = tmp_path / "mean.ply"
    assert cli.main(["mesh", "template", str(shown), "--decoder", str(out)]) == 0
    assert b"element vertex 80" in shown.read_bytes()


def test_the_template_is_written(tmp_path):
    out = tmp_path / "face.obj"
    assert cli.main(["mesh", "template", str(out)]) == 0
    assert len(read_obj(out)) == 775


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("fly", "there is no action 'fly'"),
        ("template out.stl", "ends in .obj or .ply"),
        ("pretrain out.onnx", "ends in .npz"),
        ("pretrain out.npz --landmarks 1 2 3 4 5", "--template"),
        ("pretrain out.npz --steps 0", "expected 1"),
    ],
)
def test_mistakes_are_told(args, said, capsys):
    assert cli.main(["mesh", *args.split()]) == 2
    assert said in capsys.readouterr().err


def test_mesh_files_ask_for_meshes(tmp_path, capsys):
    picture = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(picture)
    assert cli.main(["detect", str(picture), "--mesh-out", str(tmp_path / "x")]) == 2
    assert "--mesh" in capsys.readouterr().err
    assert cli.main(["detect", str(picture), "--model", "scrfd-500m-kps", "--mesh"]) == 2
    assert "gives no meshes" in capsys.readouterr().err
