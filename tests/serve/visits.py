"""Fixtures of the tests of the page: a service in a process, and a browser that visits it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from PIL import Image

MODELS = ("scrfd-500m-kps", "retinaface-mobile")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
WATCH = """addEventListener("securitypolicyviolation", (event) => {
    console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`);
});"""


@pytest.fixture(scope="session")
def service() -> Iterator[str]:
    """The address of a service of two models, with the protocol vga besides their own."""
    command = [sys.executable, "-m", "facefind", "serve", "--port", "0", "--threads", "1"]
    command += ["--models", *MODELS, "--protocols", "vga"]
    with tempfile.TemporaryFile("a+") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            yield ready(process, log)
        finally:
            process.terminate()
            process.wait(30)


def ready(process: subprocess.Popen[bytes], log: IO[str]) -> str:
    """The address that a service logs, once it answers there."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
        log.seek(0)
        if port := re.search(r'"listening".*"port": (\d+)', log.read()):
            address = f"http://127.0.0.1:{port[1]}/"
            with suppress(OSError):
                urllib.request.urlopen(address + "readyz").close()
                return address
    log.seek(0)
    pytest.fail(f"the service is not ready: {log.read()}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, or another one, with a camera that is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(FAKE_CAMERA))
        yield browser
        browser.close()


class Visit:
    """A page that is open, and what went wrong there: `expected` texts are no failures."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self.address = address
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(60_000)
        self.context.add_init_script(WATCH)
        self.page = self.context.new_page()
        self.expected: list[str] = []
        self.problems: list[str] = []
        self.requests: list[Any] = []
        self.page.on("console", self._message)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._request)
        self.page.on("filechooser", lambda chooser: None)  # from now on none opens a window

    def open(self) -> Visit:
        """Load the page, and wait until it knows the models."""
        self.page.goto(self.address)
        self.page.locator(".pane").wait_for(state="attached")
        return self

    def add(self, *files: Path) -> None:
        """Choose files, and wait for all of their results."""
        options = self.page.locator("#pictures li")
        count = options.count() + len(files)
        self.page.set_input_files("#files", files)
        options.nth(count - 1).wait_for()
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is requested any more."""
        self.page.evaluate("() => new Promise(requestAnimationFrame)")  # what was done is shown
        self.page.wait_for_function(
            "() => !document.querySelector('.busy, [data-state=running], [data-state=waiting]')"
            " && document.querySelector('#pictures li')?.dataset.state"
        )

    def posts(self, path: str = "v1/detect") -> list[Any]:
        """The requests with pictures to a path so far."""
        whole = self.address + path
        return [one for one in self.requests if one.url.partition("?")[0] == whole]

    def found(self) -> list[str]:
        """What each pane says that it found."""
        texts: list[str] = self.page.locator(".found strong").all_inner_texts()
        return texts

    def slide(self, value: float, pane: int = 0) -> None:
        """Move a pane's slider as a hand does."""
        self.page.locator(".least input").nth(pane).fill(str(value))
        self.page.evaluate("() => new Promise(requestAnimationFrame)")

    def download(self, what: str) -> Path:
        """The file that a button of downloads gives, under its name there."""
        with self.page.expect_download() as info:
            self.page.click(f"[data-save={what}]")
        path = Path(info.value.path())
        return path.rename(path.with_name(info.value.suggested_filename))

    def close(self) -> None:
        """Close the page; fails where something went wrong that was not expected."""
        self.context.close()
        left = [one for one in self.problems if not any(text in one for text in self.expected)]
        assert not left

    def _message(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _request(self, request: Any) -> None:
        self.requests.append(request)
        if not request.url.startswith((self.address, "blob:" + self.address, "data:")):
            self.problems.append(f"a request to another host: {request.url}")


@pytest.fixture(scope="session")
def browse(chromium: Any) -> Callable[..., Visit]:
    """Makes a visit to an address, to be opened and closed by who calls it."""
    return partial(Visit, chromium)


@pytest.fixture
def visit(browse: Callable[..., Visit], service: str) -> Iterator[Callable[..., Visit]]:
    """Opens the page in a browser of its own; at the end nothing may have gone wrong there."""
    open_ones: list[Visit] = []

    def make(**context: Any) -> Visit:
        context.setdefault("viewport", {"width": 1280, "height": 800})
        open_ones.append(browse(service, **context))
        return open_ones[-1].open()

    yield make
    for one in open_ones:
        one.close()


@pytest.fixture(scope="session")
def portrait_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NASA's portrait of Eileen Collins, 512x512, as a JPEG file."""
    data = pytest.importorskip("skimage.data", reason="scikit-image holds the portrait")
    path = tmp_path_factory.mktemp("pictures") / "collins.jpg"
    Image.fromarray(data.astronaut()).save(path, quality=92)
    return path


@pytest.fixture(scope="session")
def group_file(portrait_file: Path) -> Path:
    """The portrait's face four times in a row, in several sizes, 800x300, as a PNG file."""
    face = Image.open(portrait_file).crop((120, 0, 320, 300))
    group = Image.new("RGB", (800, 300), (90, 110, 130))
    for place, scale in enumerate((1.0, 0.8, 0.5, 0.3)):
        one = face.resize((round(200 * scale), round(300 * scale)))
        group.paste(one, (200 * place, 0))
    path = portrait_file.with_name("group.png")
    group.save(path)
    return path


@pytest.fixture(scope="session")
def broken_file(portrait_file: Path) -> Path:
    """A file that is no picture, by the name of one."""
    path = portrait_file.with_name("broken.jpg")
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(20))
    return path


@pytest.fixture(scope="session")
def answer(service: str) -> Callable[..., Any]:
    """What the service itself says: `answer(file, "v1/detect?score=0.5")`, JSON or bytes."""

    def post(file: Path, path: str) -> Any:
        request = urllib.request.Request(service + path, data=file.read_bytes(), method="POST")
        request.add_header("Content-Type", "image/jpeg" if file.suffix == ".jpg" else "image/png")
        with urllib.request.urlopen(request) as response:
            body = response.read()
            return json.loads(body) if "json" in response.headers["Content-Type"] else body

    return post
