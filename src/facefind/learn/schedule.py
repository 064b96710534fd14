"""Learning rate over a run."""

from __future__ import annotations

import math

from facefind.learn.recipe import ScheduleConfig


def learning_rate(step: int, steps: int, warmup_steps: int, config: ScheduleConfig) -> float:
    """Factor of the peak rate at a step (0-based) of a run of `steps`.

    It rises linearly from `warmup_factor` to 1 over the warm-up; then it falls tenfold at each
    of the fractions `steps` of the run, or along half a cosine down to `final`.

    Source: SCRFD, sec. 5.1 (step); SGDR (arXiv:1608.03983), eq. 5 without restarts (cosine).
    """
    if step < warmup_steps:
        rise = step / warmup_steps
        return config.warmup_factor + (1 - config.warmup_factor) * rise
    if config.kind == "step":
        return 0.1 ** sum(step >= fraction * steps for fraction in config.steps)
    progress = (step - warmup_steps) / max(steps - warmup_steps, 1)
    return config.final + (1 - config.final) * (1 + math.cos(math.pi * min(progress, 1))) / 2
