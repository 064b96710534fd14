import dataclasses
import io
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.errors import DataError
from facefind.learn.index_sampler import Epochs, IndexSampler
from facefind.learn.mining import Miner, passes
from facefind.learn.recipe import MiningConfig

GROUPS = ["common"] * 17 + ["rare"] * 3


def score(number, batch, owner=0):
    """How weak an image's weakest anchor is found: by image and time, sometimes there is none."""
    value = np.random.default_rng((number, batch // 4, owner)).random()
    return np.float32(np.nan if value < 0.2 else value)


def mined(miner, batches, images, *, ahead=0, owner=score):
    """What one process sees over some batches, drawing each `ahead` batches early."""
    stream = miner.sampler()
    drawn = [list(itertools.islice(stream, images)) for _ in range(ahead)]
    begun = []
    for _ in range(batches):
        drawn.append(list(itertools.islice(stream, images)))
        batch = miner.batches
        pairs = drawn[len(drawn) - 1 - ahead]
        begun += miner.observe(np.array([[owner(n, batch) for _, n in pairs]], np.float32))
    return [pair for pairs in drawn[:batches] for pair in pairs], begun


def plainly(epochs, config, batches, images):
    """The same from the rule alone: all marks made anew at each pass from all that was seen."""
    seen, numbers, rest, number = [], [], [], -1
    for batch in range(batches):
        now = []
        for _ in range(images):
            while not rest:
                number += 1
                easy = [False] * epochs.size
                for image, value in itertools.chain(*seen[: max(batch - config.lag, 0)]):
                    if np.isnan(value):
                        verdict = {"easy": True, "hard": False}.get(config.no_positives)
                    else:
                        verdict = bool(value > np.float32(config.threshold))
                    if verdict is not None and not (config.sticky and easy[image]):
                        easy[image] = verdict
                coins = np.random.default_rng((epochs.seed, number, 2)).random(epochs.size)
                rest = [
                    int(n)
                    for n, coin in zip(epochs.order(number), coins, strict=True)
                    if not easy[n] or coin >= config.skip
                ]
            now.append(rest.pop(0))
        numbers += now
        seen.append([(n, score(n, batch)) for n in now])
    return numbers


configs = st.builds(
    MiningConfig,
    on=st.just(True),
    threshold=st.sampled_from([0.3, 0.85]),
    skip=st.sampled_from([0.0, 0.7, 0.95]),
    sticky=st.booleans(),
    no_positives=st.sampled_from(["easy", "hard", "keep"]),
    lag=st.integers(0, 9),
)


@settings(max_examples=60, deadline=None)
@given(configs, st.integers(1, 7), st.sampled_from([0.0, 0.6]), st.integers(0, 99))
def test_it_is_the_rule_however_far_ahead_it_is_drawn(config, images, balance, seed):
    epochs = Epochs(GROUPS, seed, balance=balance)
    want = plainly(epochs, config, 30, images)
    for ahead in {0, config.lag}:
        pairs, _ = mined(Miner(epochs, config, images=images), 30, images, ahead=ahead)
        assert [place for place, _ in pairs] == list(range(30 * images))
        assert [number for _, number in pairs] == want


@settings(max_examples=40, deadline=None)
@given(configs, st.integers(1, 5), st.integers(0, 25), st.integers(0, 99))
def test_it_goes_on_from_its_state(config, images, stop, seed):
    epochs = Epochs(GROUPS, seed)
    whole, passed = mined(Miner(epochs, config, images=images), 30, images)
    first = Miner(epochs, config, images=images)
    # a kill comes while the next batches are drawn already
    before, begun = mined(first, stop, images, ahead=config.lag)
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second = Miner(epochs, config, images=images)
    second.restore(torch.load(file, weights_only=True))
    after, later = mined(second, 30 - stop, images, ahead=config.lag)
    assert before + after == whole
    assert begun + later == passed


def test_without_easy_images_it_is_the_plain_stream():
    epochs = Epochs(GROUPS, seed=3)
    miner = Miner(epochs, MiningConfig(on=True), images=4)
    pairs, begun = mined(miner, 20, 4, owner=lambda *_: 0.1)
    assert pairs == list(itertools.islice(IndexSampler(epochs), 80))
    assert [(p.number, p.skipped, p.easy) for p in begun] == [(n, 0, 0) for n in range(4)]


def test_easy_images_are_seen_as_often_as_the_coin_says():
    """Half of the images are easy: of these 3 in 10 are left in, of the others all."""
    epochs = Epochs([""] * 400, seed=0)
    miner = Miner(epochs, MiningConfig(on=True, lag=0), images=10)
    pairs, begun = mined(miner, 200, 10, owner=lambda n, _: 0.9 if n < 200 else 0.5)
    assert begun[0].skipped == begun[0].easy == 0  # the first pass goes through all
    for later in begun[1:]:
        assert later.easy > 0.47
        assert 0.27 < later.skipped < 0.42
    second = [n for _, n in pairs[400 : 400 + round(400 * (1 - begun[1].skipped))]]
    assert len(second) == len(set(second))
    assert set(range(200, 400)) <= set(second)


@pytest.mark.parametrize(("sticky", "easy"), [(True, 1.0), (False, 0.0)])
def test_a_mark_is_sticky_or_the_last(sticky, easy):
    config = MiningConfig(on=True, lag=0, skip=0.0, sticky=sticky)
    miner = Miner(Epochs([""] * 6, seed=0), config, images=6)
    _, begun = mined(miner, 3, 6, owner=lambda _, batch: 0.9 if batch == 0 else 0.1)
    assert [p.easy for p in begun] == [0, 1, easy]


@pytest.mark.parametrize(("fate", "easy"), [("easy", 1.0), ("hard", 0.0), ("keep", 0.5)])
def test_what_an_image_without_positives_becomes(fate, easy):
    config = MiningConfig(on=True, lag=0, skip=0.0, no_positives=fate)
    miner = Miner(Epochs([""] * 6, seed=0), config, images=6)

    def first_half_easy_then_nothing(number, batch):
        return float("nan") if batch else (0.9 if number < 3 else 0.1)

    _, begun = mined(miner, 3, 6, owner=first_half_easy_then_nothing)
    assert [p.easy for p in begun] == [0, 0.5, easy]


def two(config, epochs, batches, images):
    """Two processes that see `images` each in a batch; what each draws, and the passes."""
    lists = 1 if config.shared else 2
    miners = [Miner(epochs, config, images=images * 2 // lists, lists=lists) for _ in range(2)]
    streams = [miner.sampler(rank, 2) for rank, miner in enumerate(miners)]
    drawn, begun = ([], []), []
    for batch in range(batches):
        pairs = [list(itertools.islice(stream, images)) for stream in streams]
        weakest = np.array([[score(n, batch) for _, n in row] for row in pairs], np.float32)
        passed = [miner.observe(weakest) for miner in miners]
        assert passed[0] == passed[1]  # each knows all that the others know
        begun += passed[0]
        for mine, row in zip(drawn, pairs, strict=True):
            mine += row
    return drawn, begun


def test_processes_that_share_a_list_walk_it_as_one():
    config = MiningConfig(on=True, shared=True, threshold=0.4, lag=3)
    epochs = Epochs(GROUPS, seed=1, balance=0.5)
    drawn, begun = two(config, epochs, 25, 3)
    alone, passed = mined(Miner(epochs, config, images=6), 25, 6)
    assert sorted(drawn[0] + drawn[1]) == alone
    assert begun == passed


def test_processes_have_lists_of_their_own():
    config = MiningConfig(on=True, threshold=0.4, lag=3)
    epochs = Epochs(GROUPS, seed=1)
    drawn, begun = two(config, epochs, 25, 3)
    alone, passed = mined(Miner(epochs, config, images=3), 25, 3)
    assert [n for _, n in drawn[0]] == [n for _, n in alone]
    assert [n for _, n in drawn[1]] != [n for _, n in alone]
    assert [p for p in begun if p.owner == 0] == passed
    places = [place for mine in drawn for place, _ in mine]
    assert len(set(places)) == len(places)  # no two images are drawn by the same random numbers
    assert {p.owner for p in begun} == {0, 1}
    assert max(p.skipped for p in begun if p.owner == 1) > 0


def test_wrong_values_are_told():
    epochs = Epochs(GROUPS, seed=0)
    for wrong in ({"threshold": 1.2}, {"skip": 1.0}, {"lag": -1}):
        with pytest.raises(DataError, match=rf"--mining\.{next(iter(wrong))}"):
            Miner(epochs, MiningConfig(on=True, **wrong), images=2)
    miner = Miner(epochs, MiningConfig(on=True, lag=2), images=20)
    stream = miner.sampler()
    with pytest.raises(RuntimeError, match="batch 3"):
        list(itertools.islice(stream, 80))
    with pytest.raises(DataError, match="the same images"):
        Miner(Epochs([""] * 3, seed=0), MiningConfig(on=True), images=2).restore(miner.state())


def log(folder, records):
    folder.mkdir()
    text = "\n".join(json.dumps(record) for record in records)
    (folder / "log.jsonl").write_text(text + '\n{"cut": ')
    return folder


def test_the_passes_of_a_run_are_read(tmp_path):
    run = log(
        tmp_path / "run",
        [
            {"step": 1, "mining_pass": 0, "mining_skipped": 0.0, "mining_easy": 0.0},
            {"step": 1, "mining_pass_1": 0, "mining_skipped_1": 0.0, "mining_easy_1": 0.0},
            {"step": 9, "loss_cls": 2.0},
            {"step": 9, "mining_pass": 1, "mining_skipped": 0.3, "mining_easy": 0.5},
            {"step": 9, "mining_pass": 1, "mining_skipped": 0.3, "mining_easy": 0.5},  # resumed
        ],
    )
    begun = passes(run)
    assert [(step, p.owner, p.number, p.skipped) for step, p in begun] == [
        (1, 0, 0, 0.0), (9, 0, 1, 0.3), (1, 1, 0, 0.0),
    ]  # fmt: skip
    plain = log(tmp_path / "plain", [{"step": 1, "loss_cls": 1.0}])
    with pytest.raises(DataError, match=r"--mining\.on"):
        passes(plain)
    with pytest.raises(DataError, match="no run folder"):
        passes(tmp_path / "absent")


def test_a_record_names_its_list():
    begun = dataclasses.replace(
        mined(Miner(Epochs(GROUPS, 0), MiningConfig(on=True), images=1), 1, 1)[1][0], owner=3
    )
    assert begun.record() == {"mining_pass_3": 0, "mining_skipped_3": 0.0, "mining_easy_3": 0.0}
