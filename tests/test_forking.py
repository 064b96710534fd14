"""A forked process works, wherever the other threads of its parent were."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
from reference.forks import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "torch"])
def test_runtimes_are_opened_anew_whatever_the_parents_threads_do(
    runtime: str, tmp_path: Path
) -> None:
    run(f"""
        import numpy as np, block_model
        from facefind.runtimes import open_model
        if {runtime!r} == "torch":
            import torch
            torch.set_num_threads(2)
            model = open_model(block_model.network(), card=block_model.card())
            other = model
        else:
            os.chdir({str(tmp_path)!r})
            path = block_model.write(pathlib.Path("blocks.onnx"))
            model, other = (open_model(path, {runtime!r}, threads=2) for _ in range(2))
            os.chdir("/")  # the children open the file again
        images = np.random.default_rng(0).integers(0, 256, (1, 3, 320, 320), dtype=np.uint8)
        expected = block_model.candidates(images).boxes

        def work():
            assert np.abs(model(images).boxes - expected).max() < 1e-3

        stop = threading.Event()
        def busy():
            while not stop.is_set():
                model(images)
        thread = threading.Thread(target=busy)
        thread.start()
        codes = []
        for wait in (0.0, 0.02, 0.3):  # while the first call prepares the model, and later
            time.sleep(wait)
            codes.append(child(work))
        stop.set()
        thread.join()
        other(images)
        del other  # a closed model's threads are kept for the next one, which is a child's here
        codes.append(child(work))
        codes.append(child(lambda: sys.exit(child(work))))  # SystemExit counts as a failure
        assert codes == [0, 0, 0, 0, 1], codes
        work()
    """)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_child_may_close_its_parents_models_and_end(runtime: str, tmp_path: Path) -> None:
    run(f"""
        import ctypes, gc, numpy as np, block_model
        from facefind.runtimes import open_model
        path = block_model.write(pathlib.Path({str(tmp_path)!r}) / "blocks.onnx")
        images = np.zeros((1, 3, 64, 64), np.uint8)
        models = [open_model(path, {runtime!r}, threads=2) for _ in range(2)]
        for model in models:
            model(images)

        def work():
            del models[:]
            gc.collect()
            open_model(path, {runtime!r}, threads=2)(images)

        del model
        assert child(work) == 0
        closed = models.pop()
        del closed
        assert child(work) == 0
        if {runtime!r} == "openvino" or hasattr(ctypes.CDLL(None), "on_exit"):
            pid = os.fork()
            if pid == 0:
                work()
                sys.exit(5)
            assert code_of(pid) == 5
    """)


def test_a_child_may_end_while_models_videos_and_files_are_open(tmp_path: Path) -> None:
    run(f"""
        import numpy as np, videos
        from facefind import FaceDetector, files
        from facefind.video import VideoReader, VideoWriter
        os.chdir({str(tmp_path)!r})
        videos.write(pathlib.Path("old.mp4"), videos.moving(60))
        detector = FaceDetector("scrfd-500m-kps", threads=2, runtime="openvino")
        reader, other = VideoReader("old.mp4"), VideoReader("old.mp4")
        with other, files.atomic("text") as draft, VideoWriter("new.mkv", reader) as writer:
            draft.write_text("text")
            for frame in reader:
                writer.write(frame)
                if frame.index == 55:
                    detector(frame.image())
                    pid = os.fork()
                    if pid == 0:
                        sys.exit(5)  # leaves the blocks and frees all
                    assert code_of(pid) == 5
        assert pathlib.Path("text").read_text() == "text"
        assert len(list(VideoReader("new.mkv"))) == 60
    """)


def test_a_fork_waits_for_what_must_not_be_cut_and_finds_it_free() -> None:
    run("""
        from facefind import forking
        lock, inside, ended = forking.guard(), threading.Event(), []

        def hold(block):
            with block:
                inside.set()
                time.sleep(0.2)
                ended.append(1)

        for number, block in enumerate((lock, forking.whole()), 1):
            inside.clear()
            thread = threading.Thread(target=hold, args=(block,))
            thread.start()
            inside.wait()

            def work():
                assert len(ended) == number
                assert lock.acquire(timeout=5)
                with forking.whole():
                    assert forking.generation() == 1

            assert child(work) == 0
            thread.join()
        with lock, forking.whole():  # its own blocks do not hinder a thread from forking
            assert child(lambda: None) == 0
        assert forking.generation() == 0
    """)


def test_a_fork_waits_for_imports_of_other_threads(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.5)\nready = True\n")
    run(f"""
        import facefind.forking
        sys.path.insert(0, {str(tmp_path)!r})
        thread = threading.Thread(target=__import__, args=("slow",))
        thread.start()
        time.sleep(0.1)

        def work():
            import slow
            assert slow.ready

        assert child(work, 5) == 0
        thread.join()
    """)


def test_an_import_that_a_fork_waits_for_may_log_and_make_a_guard(tmp_path: Path) -> None:
    code = """
        import time
        time.sleep(0.3)
        import logging
        from concurrent.futures import ThreadPoolExecutor
        from facefind import forking
        logging.getLogger("slow").warning("a lock of logging")
        pool = ThreadPoolExecutor(1)
        pool.submit(int).result()
        lock = forking.guard()
    """
    (tmp_path / "slow.py").write_text(textwrap.dedent(code))
    run(f"""
        import facefind.forking
        import logging, concurrent.futures.thread
        sys.path.insert(0, {str(tmp_path)!r})
        unraised = []
        sys.unraisablehook = unraised.append
        thread = threading.Thread(target=__import__, args=("slow",))
        thread.start()
        time.sleep(0.1)

        def work():
            import slow
            assert slow.lock.acquire(timeout=1)
            assert not unraised, unraised

        assert child(work, 5) == 0
        thread.join()
        assert not unraised, unraised
        work()
    """)


def test_pictures_are_read_in_a_child_while_the_parent_reads(tmp_path: Path) -> None:
    run("""
        import io, numpy as np
        from PIL import Image
        from facefind import images
        file = io.BytesIO()
        Image.new("RGB", (64, 64)).save(file, "png")
        images.read(file.getvalue())
        stop, filters = threading.Event(), list(warnings.filters)

        def busy():
            while not stop.is_set():
                images.read(file.getvalue())

        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()

        def work():
            assert images.read(file.getvalue()).shape == (64, 64, 3)
            assert warnings.filters == filters

        codes = [child(work, 5) for _ in range(20)]
        stop.set()
        assert codes == [0] * 20, codes
    """)


def test_a_stream_belongs_to_the_process_that_began_it() -> None:
    run("""
        import numpy as np
        from facefind.streaming import read_ahead
        stream = read_ahead(range(100), lambda n: np.zeros((1, 1, 3), np.uint8))
        next(stream)

        def work():
            try:
                next(stream)
            except RuntimeError as error:
                assert "forked" in str(error)
            else:
                raise AssertionError

        assert child(work, 5) == 0
        assert child(stream.close, 5) == 0
        assert len(list(stream)) == 99
    """)


def test_a_child_neither_holds_nor_drops_its_parents_lock(tmp_path: Path) -> None:
    run(f"""
        from facefind.files import Lock
        path = {str(tmp_path / "lock")!r}
        lock = Lock(path)
        assert lock.acquire()
        assert lock.holder().startswith(f"process {{os.getpid()}} on ")

        def work():
            assert not Lock(path).acquire()
            lock.release()

        assert child(work, 5) == 0
        assert not Lock(path).acquire()
        lock.release()
        assert not os.path.exists(path)
        assert Lock(path).acquire()
    """)


def test_a_child_may_leave_the_blocks_of_its_parents_results(tmp_path: Path) -> None:
    run(f"""
        import json, tarfile, numpy as np
        from facefind import Faces, files
        from facefind.pipeline import CropFolder, open_results, to_record
        from facefind.pipeline.stores import open_store
        parent, folder = os.getpid(), pathlib.Path({str(tmp_path)!r})
        image = np.zeros((112, 112, 3), np.uint8)
        points = np.array([[[38, 51], [73, 51], [56, 71], [41, 92], [70, 92]]], np.float32)
        faces = Faces(np.array([[0, 0, 112, 112.0]]), np.ones(1), points, image_size=(112, 112))

        def write(leave, code):
            where = folder / leave.__name__
            address = f"memory://crops/{{leave.__name__}}"
            with (
                CropFolder(where / "tars", per_tar=2) as tars,
                CropFolder(address) as remote,
                open_results(where / "faces.csv") as table,
            ):
                for name in ("a.png", "b.png"):
                    tars.write(name, image, faces)
                    remote.write(name, image, faces)
                    table.write(to_record(name, faces))
                    if name == "a.png":
                        pid = os.fork()
                        if pid == 0:
                            leave()
                            return
                        assert code_of(pid) == code
            names = tarfile.open(where / "tars" / "00000.tar").getnames()
            assert names[::2] == ["a_0.png", "b_0.png"]
            stored = open_store(address).get("manifest.jsonl").decode()
            for text in ((where / "tars" / "manifest.jsonl").read_text(), stored):
                names = [json.loads(line)["image"] for line in text.splitlines()]
                assert names == ["a.png", "b.png"]
            assert len((where / "faces.csv").read_text().splitlines()) == 3

        write(sys.exit, 0)
        write(int, 7)
        sys.exit(0 if os.getpid() == parent else 7)
    """)


def test_an_image_at_an_address_that_the_parent_has_read_is_read_in_a_child(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "a.png").write_bytes(b"content")
    run(f"""
        import functools, http.server, videos
        from facefind.pipeline.remote import picture
        handler = http.server.SimpleHTTPRequestHandler
        with videos.serving(functools.partial(handler, directory={str(tmp_path)!r})) as address:
            found = picture(address + "/a.png", "a.png")

            def work():
                assert found.load() == b"content"

            work()
            assert child(work) == 0
    """)
