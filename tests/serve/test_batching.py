"""Which items are run together and when, on a clock of the test's own; and room for bytes."""

from __future__ import annotations

import threading

from facefind.serve.batching import Batches, Room


def batches(size: int = 4, max_wait: float = 1.0) -> Batches[str, str]:
    return Batches(max_wait, lambda key: size)


def test_nothing_waits_at_first():
    assert batches().take(0.0) == ([], None)


def test_a_full_batch_is_run_at_once():
    waiting = batches(size=3)
    for item in "abcd":
        waiting.put("key", item, 0.0)
    assert waiting.take(0.0) == (["a", "b", "c"], None)
    assert waiting.take(0.0) == ([], 1.0)
    assert len(waiting) == 1


def test_a_few_wait_for_others_but_no_longer_than_max_wait():
    waiting = batches()
    waiting.put("key", "a", 10.0)
    waiting.put("key", "b", 10.5)
    assert waiting.take(10.75) == ([], 0.25)
    assert waiting.take(11.0) == (["a", "b"], None)
    assert waiting.take(11.0) == ([], None)


def test_batches_of_one_never_wait():
    waiting = batches(size=1)
    waiting.put("key", "a", 0.0)
    assert waiting.take(0.0) == (["a"], None)


def test_keys_are_never_mixed_and_the_one_that_waits_longest_comes_first():
    waiting = batches(size=2)
    waiting.put("small", "a", 0.0)
    waiting.put("large", "b", 0.25)
    waiting.put("large", "c", 0.5)
    assert waiting.take(0.5) == (["b", "c"], None)  # full, though another waits longer
    waiting.put("large", "d", 0.75)
    waiting.put("large", "e", 0.75)
    assert waiting.take(1.0) == (["a"], None)  # both may be run: it is older
    assert waiting.take(1.0) == (["d", "e"], None)


def test_the_next_look_is_when_the_first_of_all_keys_has_waited():
    waiting = batches()
    waiting.put("one", "a", 0.0)
    waiting.put("two", "b", 0.5)
    assert waiting.take(0.75) == ([], 0.25)


def test_room_is_limited_and_given_back():
    room = Room(100)
    assert room.take_now(60)
    assert not room.take_now(41)
    assert room.take_now(40)
    room.give(60)
    assert room.held == 40
    assert room.take(60, timeout=0)
    assert not room.take(1, timeout=0)


def test_what_is_larger_than_all_has_the_room_to_itself():
    room = Room(100)
    assert room.take(500, timeout=0)
    assert not room.take_now(1)
    room.give(500)
    assert room.take_now(1)
    assert not room.take(500, timeout=0)


def test_a_large_holding_is_not_passed_by_small_ones():
    room = Room(100)
    room.take(60)
    got = []
    waits = threading.Thread(target=lambda: got.append(room.take(80, timeout=10)))
    waits.start()
    while not room._line:
        pass
    assert not room.take_now(1)
    assert not room.take(1, timeout=0.01)
    room.give(60)
    waits.join()
    assert got == [True]
    assert room.held == 80
