"""Processes that have torch from the start: forks of a server that has imported it once.

A process of its own takes seconds until it can train; these take a tenth of one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes

PRELOADED = ["pytest", "cv2", "torch.utils.tensorboard", "facefind.search.study"]
PRELOADED += ["facefind.recipes", "facefind.learn.engine", "facefind.runtimes.pytorch"]


def server() -> ForkServerContext:
    """Where `Process` makes such a process; what it runs is a module's function."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def run_until(file: Path, work: Callable[..., Any], *args: Any, seconds: float = 300) -> None:
    """Run `work(*args)` in such a process, and kill it (SIGKILL) as soon as the file is there."""
    process = server().Process(target=work, args=args)
    process.start()
    until = time.monotonic() + seconds
    while not file.exists() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.join()


def in_two(work: Callable[..., Any], *args: Any, folder: Path) -> list[Any]:
    """What `work(*args)` gives, through JSON, in each of two processes that torchrun could start.

    `folder` is for the results. Where one fails the other is ended, and its error is raised.
    """
    server()
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    start_processes(_ranked, (store.port, folder, work, args), nprocs=2, start_method="forkserver")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def _ranked(rank: int, port: int, folder: Path, work: Callable[..., Any], args: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the store is the parent's
    (folder / f"{rank}.json").write_text(json.dumps(work(*args)))
