"""What is kept for a while: never more than its bytes, and gone when nobody asks."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import Cache

KEYS = st.integers(0, 9)


@given(st.lists(st.one_of(st.tuples(KEYS, st.integers(0, 70)), KEYS, st.none())))
def test_it_answers_with_what_was_put_last_and_holds_no_more_than_its_bytes(
    steps: list[tuple[int, int] | int | None],
) -> None:
    cache: Cache[int, tuple[int, int]] = Cache(100)
    last: dict[int, tuple[int, int]] = {}
    for number, step in enumerate(steps):
        if step is None:
            cache.tidy()
        elif isinstance(step, int):
            assert cache.get(step) in (None, last.get(step))
        else:
            key, size = step
            last[key] = (number, size)
            cache.put(key, last[key], size)
            assert (cache.get(key) == last[key]) == (size <= 50)
        assert sum(size for key in range(10) if (found := _peek(cache, key)) for size in found[1:]) <= 100


def _peek(cache: Cache[int, tuple[int, int]], key: int) -> tuple[int, int] | None:
    found = cache._new.get(key) or cache._old.get(key)
    return found[0] if found else None


def test_what_is_asked_for_stays_and_all_else_goes() -> None:
    cache: Cache[str, str] = Cache(100)
    for key in ("asked", "not"):
        cache.put(key, key.upper(), 10)
    for _ in range(5):
        assert cache.get("asked") == "ASKED"
        cache.tidy()
    assert cache.get("not") is None
    cache.clear()
    assert cache.get("asked") is None
