"""Triangle meshes and what turns mesh parameters into vertices: NumPy alone, floor 0."""

from facefind.mesh.decoding import PARAMETERS, Decoder, project
from facefind.mesh.sparse import Sparse
from facefind.mesh.surface import Mesh, read_obj, write_obj, write_ply

__all__ = [
    "PARAMETERS",
    "Decoder",
    "Mesh",
    "Sparse",
    "project",
    "read_obj",
    "write_obj",
    "write_ply",
]
