import numpy as np
import pytest
from scipy.io import savemat

from facefind.datasets.files import is_hdf5_mat, read_mat
from facefind.errors import DataError

# MATLAB's own first 128 bytes: text, then the version and the order of bytes.
V73_HEADER = b"MATLAB 7.3 MAT-file".ljust(124, b" ") + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"


def test_variables_come_back_by_name(tmp_path):
    file = tmp_path / "labels.mat"
    savemat(file, {"boxes": np.arange(8.0).reshape(2, 4)})
    assert not is_hdf5_mat(file)
    assert np.array_equal(read_mat(file)["boxes"], np.arange(8.0).reshape(2, 4))


def test_version_7_3_is_told_and_refused(tmp_path):
    file = tmp_path / "labels.mat"
    file.write_bytes(V73_HEADER)
    assert is_hdf5_mat(file)
    with pytest.raises(DataError, match=r"v7\.3.*-v7"):
        read_mat(file)


@pytest.mark.parametrize("content", [None, b"", b"no MATLAB file at all" * 10])
def test_what_is_no_matlab_file_is_an_error_of_ours(tmp_path, content):
    file = tmp_path / "labels.mat"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        read_mat(file)
