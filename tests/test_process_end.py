"""A process ends well, whatever its threads are doing."""

from __future__ import annotations

from pathlib import Path

from reference.forks import run


def test_a_process_ends_while_daemon_threads_are_in_libraries(tmp_path: Path) -> None:
    run(f"""
        import numpy as np, block_model
        from facefind import FaceDetector
        path = block_model.write(pathlib.Path({str(tmp_path)!r}) / "blocks.onnx")
        image = block_model.picture(650, 650, (1, 1))  # it is resized by OpenCV
        for runtime in ("openvino", "onnxruntime"):
            detector = FaceDetector(path, runtime=runtime, protocol=320, threads=1)

            def busy(detector=detector):
                while True:
                    detector(image)

            detector(image)
            threading.Thread(target=busy, daemon=True).start()
        time.sleep(0.05)
    """)


def test_a_process_ends_with_a_stream_that_waits_and_a_thread_that_goes_on(tmp_path: Path) -> None:
    run(f"""
        import numpy as np
        from facefind.streaming import read_ahead
        from facefind.video import run_ahead

        started = threading.Event()
        def read(item):
            started.set()
            return np.zeros((1, item, 3), np.uint8)

        stream = read_ahead([1, 1, 900, 900], read, max_bytes=100, weigh=lambda item: 3 * item)
        next(stream)  # a large one is in a reader's hands, for which there is no room
        started.wait()

        def work():
            threading.main_thread().join()
            assert len(list(read_ahead([1] * 9, read))) == 9
            assert sum(run_ahead((n for n in range(9)), int)) == 36
            pathlib.Path({str(tmp_path)!r}, "done").touch()

        threading.Thread(target=work).start()
    """)
    assert (tmp_path / "done").exists()
