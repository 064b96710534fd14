"""Evaluations of a run: when they are, which weights are kept, and that the last is made once."""

import dataclasses
import json
import signal

import pytest

from facefind import datasets, recipes
from facefind.learn import checkpoints, validation
from facefind.learn.engine import train
from facefind.learn.initialization import initialize
from facefind.learn.logs import Log

pytestmark = pytest.mark.slow


@pytest.fixture
def scores(monkeypatch):
    """Stands for `validate`: AP to be found, in turn, and the weights that were measured."""
    script, seen = [], []

    def scripted(network, recipe, held_out):
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        ap = script.pop(0)
        if isinstance(ap, BaseException):
            raise ap
        images = len(held_out) if recipe.run.evaluate_images else 0
        return {"ap_easy": ap, "ap_hard": ap / 2, "images_measured": images, "digest_measured": "d"}

    monkeypatch.setattr(validation, "validate", scripted)
    return script, seen


@pytest.fixture
def evaluated(recipe, tiny_set):
    """Eight steps, with an evaluation after each two."""
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, val=(str(tiny_set),)),
        schedule=dataclasses.replace(recipe.schedule, epochs=8 * 4 / 12),
        run=dataclasses.replace(recipe.run, evaluate_every=2 * 4 / 12),
    )


def records(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if "ap_easy" in record]


def equal(state, other):
    return state.keys() == other.keys() and all(state[key].equal(other[key]) for key in state)


def test_where_no_face_counts_there_is_no_ap(recipe, tiny_set, tmp_path, capsys):
    held_out = [one for one in datasets.read(tiny_set) if not len(one)]
    evaluator = validation.Evaluator(tmp_path, recipe, held_out, images=12)
    with Log(tmp_path) as log:
        found = evaluator(recipe.network.build(), 1, log)
    assert found.keys() == {"images_measured", "digest_measured"}
    assert "no face is labeled in the 3 held-out images" in capsys.readouterr().err


def test_the_best_weights_are_kept_beside_the_last(evaluated, scores, capsys):
    script, seen = scores
    script += [0.2, 0.6, 0.4, 0.4]
    folder = train(evaluated)
    assert [r["step"] for r in records(folder)] == [2, 4, 6, 8]
    assert [r["mean_ap"] for r in records(folder)] == pytest.approx([0.15, 0.45, 0.3, 0.3])
    best, final = (checkpoints.load(folder / name) for name in ("best.pt", "final.pt"))
    assert (best["step"], best["evaluation"]["mean_ap"]) == (4, pytest.approx(0.45))
    assert (final["step"], final["evaluation"]["mean_ap"]) == (8, pytest.approx(0.3))
    assert equal(best["network"], seen[1])
    assert equal(final["network"], seen[3])
    shown = capsys.readouterr().err
    assert shown.count("the best so far: best.pt") == 2
    assert "best evaluation: after 4 steps, mean_ap 0.4500: best.pt" in shown


def test_best_weights_are_taken_wherever_a_run_is(evaluated, scores):
    scores[0].extend([0.9, 0.1, 0.1, 0.1])
    folder = train(evaluated)
    stored, network = recipes.load_network(folder / "best.pt")
    assert stored == evaluated
    assert equal(network.state_dict(), scores[1][0])
    fresh = evaluated.network.build()
    assert initialize(fresh, folder / "best.pt") == "network"
    assert equal(fresh.state_dict(), scores[1][0])
    _, last = recipes.load_network(folder)  # a run by its name is its result
    assert equal(last.state_dict(), scores[1][3])


def test_the_end_may_be_the_best(evaluated, scores):
    scores[0].extend([0.1, 0.2, 0.3, 0.4])
    assert checkpoints.load(train(evaluated) / "best.pt")["step"] == 8


@pytest.mark.parametrize("stop", [1, 3, 4, 5])
def test_a_resumed_run_keeps_the_best_of_all_its_stages(evaluated, scores, stop):
    script, _ = scores
    script += [0.2, 0.6, 0.4, 0.5]
    train(evaluated, stop_at=stop)
    folder = train(evaluated, resume=True)
    assert checkpoints.load(folder / "best.pt")["step"] == 4
    assert not script


def test_evaluations_of_other_images_are_not_compared(evaluated, scores, monkeypatch):
    script, _ = scores
    script += [0.9, 0.3, 0.2, 0.2]
    train(evaluated, stop_at=3)
    plain = validation.validate
    other = {"digest_measured": "another"}
    monkeypatch.setattr(validation, "validate", lambda *args: plain(*args) | other)
    folder = train(evaluated, resume=True)
    assert checkpoints.load(folder / "best.pt")["step"] == 4


def test_a_finished_run_is_evaluated_once(evaluated, scores, capsys):
    script, seen = scores
    script += [0.1] * 4
    folder = train(evaluated)
    train(evaluated, resume=True)
    assert len(seen) == 4
    assert "nothing is left to do" in capsys.readouterr().err
    longer = dataclasses.replace(evaluated.schedule, epochs=10 * 4 / 12)
    script += [0.1]
    train(dataclasses.replace(evaluated, schedule=longer), resume=True)
    assert checkpoints.load(folder / "final.pt")["step"] == 10


@pytest.mark.parametrize("lost", ["evaluation", "final.pt"])
def test_a_run_killed_at_its_end_is_finished_when_resumed(evaluated, scores, lost):
    """Killed in the last evaluation, or before the result was written."""
    script, seen = scores
    script += [0.1, 0.1, 0.1, KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        train(evaluated)
    final = evaluated.run.out / "final.pt"
    before = checkpoints.load(final)
    if lost == "final.pt":
        final.unlink()
    script += [0.7]
    train(evaluated, resume=True)
    after = checkpoints.load(final)
    assert equal(before["network"], after["network"])
    assert after["evaluation"]["ap_easy"] == 0.7
    assert len(seen) == 5


def test_sigterm_ends_an_evaluation_at_once_and_it_is_made_when_resumed(
    evaluated, scores, monkeypatch
):
    script, _ = scores
    scripted, finished = validation.validate, []

    class Ended(BaseException):
        """As of the command line, whose handler raises."""

    def end(number, frame):
        raise Ended

    def ended_in_the_second(*args):
        found = scripted(*args)
        if len(scores[1]) == 2:
            signal.raise_signal(signal.SIGTERM)
        finished.append(found)
        return found

    before = signal.signal(signal.SIGTERM, end)
    try:
        monkeypatch.setattr(validation, "validate", ended_in_the_second)
        script += [0.2, 0.6]
        with pytest.raises(Ended):
            train(evaluated)
        assert len(finished) == 1
        script += [0.6, 0.4, 0.4]
        folder = train(evaluated, resume=True)
        assert [r["step"] for r in records(folder)] == [2, 4, 6, 8]
        assert checkpoints.load(folder / "best.pt")["step"] == 4
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_evaluations_on_the_way_the_result_is_alone(evaluated, scores):
    scores[0].append(0.5)
    run = dataclasses.replace(evaluated.run, evaluate_every=0.0)
    folder = train(dataclasses.replace(evaluated, run=run))
    assert not (folder / "best.pt").exists()
    assert records(folder)[0]["mean_ap"] == pytest.approx(0.375)


def test_nothing_held_out_is_nothing_to_evaluate(evaluated):
    data = dataclasses.replace(evaluated.data, val=(), hold_out=0.0)
    folder = train(dataclasses.replace(evaluated, data=data))
    assert checkpoints.load(folder / "final.pt")["evaluation"] == {}
    assert not (folder / "best.pt").exists()
