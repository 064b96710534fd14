"""How far a run is: by its steps, and by a simulated clock."""

import dataclasses
import itertools
import json

import pytest

from facefind.learn import checkpoints
from facefind.learn.engine import train
from facefind.learn.recipe import AugmentConfig, Phase, ScheduleConfig
from facefind.learn.run_folder import TrainingError
from facefind.learn.schedule import Progress, Stopwatch, crop_size, learning_rate
from facefind.learn.step import Step


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_learning_rates():
    steps = ScheduleConfig(kind="step")
    assert learning_rate(0, 640, 3, steps) == pytest.approx(0.001)
    assert learning_rate(3, 640, 3, steps) == 1
    assert learning_rate(439, 640, 3, steps) == 1
    assert learning_rate(440, 640, 3, steps) == pytest.approx(0.1)
    assert learning_rate(639, 640, 3, steps) == pytest.approx(0.01)
    cosine = ScheduleConfig(kind="cosine", final=0.1)
    rates = [learning_rate(s, 100, 10, cosine) for s in range(101)]
    assert max(rates) == rates[10] == 1
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_by_steps_all_is_a_function_of_the_step():
    config = ScheduleConfig(epochs=6.4, batch=4, warmup_epochs=1.0, kind="cosine")
    clock = Clock()
    progress = Progress(config, 50, Stopwatch(0.0, clock))
    assert progress.steps == 80
    for step in (0, 5, 12, 13, 40, 79):
        clock.now += 100
        progress.update(step)
        assert progress.rate(step) == learning_rate(step, 80, 12, config)
        assert progress.fraction(step) == step / 80
        assert not progress.done(step)
    assert progress.done(80)
    assert Progress(config, 50, Stopwatch(), limit=9).steps == 9


def test_time_left_is_that_of_the_steps_after_the_first():
    clock = Clock()
    watch = Stopwatch(0.0, clock)
    progress = Progress(ScheduleConfig(epochs=10, batch=1), 1, watch)
    watch.start()
    clock.now += 60  # the first step compiles
    progress.update(1)
    assert progress.left(1) == 9 * 60
    clock.now += 4
    with watch.paused():
        clock.now += 1000
    progress.update(3)
    assert progress.left(3) == 7 * 2
    assert progress.position(3) == "3/10"


def test_by_the_clock_rate_sizes_and_end_follow_the_time():
    config = ScheduleConfig(epochs=100.0, minutes=2.0, warmup_epochs=10.0, kind="cosine", final=0.1)
    augment = AugmentConfig(
        size=640, phases=(Phase(until=0.25, size=320), Phase(until=0.5, size=448))
    )
    clock = Clock()
    watch = Stopwatch(0.0, clock)
    progress = Progress(config, 500, watch)
    watch.start()
    assert progress.rate(0) == pytest.approx(0.001)
    assert progress.steps is None
    rates, sizes = [], []
    for step in range(1, 13):  # a tenth of the time each, and pauses as long
        clock.now += 12
        with watch.paused():
            clock.now += 12
        progress.update(step)
        rates.append(progress.rate(step))
        sizes.append(crop_size(progress.fraction(step), augment))
        assert progress.done(step) == (step >= 10)
    assert rates[0] == 1
    assert rates[9] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(rates[:10]))
    assert sizes[:6] == [320, 320, 448, 448, 640, 640]
    assert progress.left(12) == 0


def test_steps_to_come_are_estimated_by_the_clock():
    clock = Clock()
    watch = Stopwatch(30.0, clock)  # resumed
    progress = Progress(ScheduleConfig(minutes=2.0), 500, watch)
    assert progress.fraction(40) == 0.25
    watch.start()
    for step in (41, 42, 43):
        clock.now += 2
        progress.update(step)
    assert progress.left(43) == 84
    assert progress.position(43) == "43/~85"


PHASES = (Phase(until=0.3, size=32), Phase(until=0.6, size=96))


@pytest.fixture
def seen(monkeypatch):
    """Sizes and rates of the steps; each takes two seconds of the fixture's clock."""
    clock, steps, run = Clock(), [], Step.__call__

    def counted(self, parts, rate):
        clock.now += 2
        steps.append((*{part.images.shape[1] for part in parts}, rate))
        return run(self, parts, rate)

    monkeypatch.setattr(Step, "__call__", counted)
    return clock, steps


def minutes(recipe, folder, seconds, **schedule):
    return dataclasses.replace(
        recipe,
        augment=dataclasses.replace(recipe.augment, phases=PHASES),
        schedule=dataclasses.replace(recipe.schedule, minutes=seconds / 60, **schedule),
        run=dataclasses.replace(recipe.run, out=folder, evaluate_every=1.0),
    )


@pytest.mark.parametrize("stop", [None, 4])
def test_a_run_of_minutes_ends_in_time_and_a_resumed_one_spends_the_rest(
    recipe, tmp_path, seen, monkeypatch, stop
):
    """Time passes between the stages and in evaluations, too; it is not the run's."""
    clock, steps = seen

    def slow(*_):
        clock.now += 500
        return {"ap_all": 0.5, "digest_measured": ""}

    monkeypatch.setattr("facefind.learn.validation.validate", slow)
    timed = minutes(recipe, tmp_path / "run", 20)
    if stop:
        train(timed, stop_at=stop, clock=clock)
        assert checkpoints.load(tmp_path / "run" / "last.pt")["seconds"] == 2 * stop
        clock.now += 12_345
    folder = train(timed, resume=bool(stop), clock=clock)
    assert checkpoints.load(folder / "final.pt")["step"] == len(steps) == 10
    assert [size for size, _ in steps] == [32] * 3 + [96] * 3 + [64] * 4
    warmup = recipe.schedule.warmup_epochs / recipe.schedule.epochs
    want = [learning_rate(n / 10, 1.0, warmup, recipe.schedule) for n in range(10)]
    assert [rate for _, rate in steps] == pytest.approx([recipe.optim.lr * w for w in want])
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [r["seconds"] for r in records if "lr" in r][-1] == 20


def test_a_run_of_minutes_may_get_more_of_them(recipe, tmp_path, seen):
    clock, steps = seen
    train(minutes(recipe, tmp_path / "run", 4), clock=clock)
    train(minutes(recipe, tmp_path / "run", 10), clock=clock, resume=True)
    assert len(steps) == 5
    with pytest.raises(TrainingError, match=r"--schedule\.minutes"):
        train(minutes(recipe, tmp_path / "run", 8), clock=clock, resume=True)
    by_steps = dataclasses.replace(recipe, augment=AugmentConfig(size=64, phases=PHASES))
    with pytest.raises(TrainingError, match=r"--schedule\.minutes 0\.1.*, not None"):
        train(by_steps, clock=clock, resume=True)


def test_a_limit_of_steps_holds_for_minutes_too(recipe, tmp_path, seen, monkeypatch):
    """The schedule spans these steps."""
    clock, steps = seen
    monkeypatch.setenv("FACEFIND_MAX_STEPS", "3")
    train(minutes(recipe, tmp_path / "run", 600), clock=clock)
    assert [size for size, _ in steps] == [32, 96, 64]
    assert steps[2][1] < 0.5 * recipe.optim.lr


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_has_the_crop_sizes_of_an_unbroken_one(recipe, tmp_path, seen, workers):
    phased = dataclasses.replace(
        recipe,
        augment=dataclasses.replace(recipe.augment, phases=PHASES),
        data=dataclasses.replace(recipe.data, workers=workers),
        optim=dataclasses.replace(recipe.optim, accumulate=2),
    )
    _, steps = seen
    for name, stops in (("whole", (None,)), ("parts", (2, 5, None))):
        run = dataclasses.replace(phased.run, out=tmp_path / name)
        for stop in stops:
            train(dataclasses.replace(phased, run=run), resume=True, stop_at=stop)
    count = len(steps) // 2
    assert steps[:count] == steps[count:]
    sizes = [size for size, _ in steps[:count]]
    assert sizes == [crop_size(step / count, phased.augment) for step in range(count)]
    assert set(sizes) == {32, 64, 96}
    whole, parts = (checkpoints.load(tmp_path / n / "last.pt")["ema"] for n in ("whole", "parts"))
    assert all(whole[key].equal(parts[key]) for key in whole)
