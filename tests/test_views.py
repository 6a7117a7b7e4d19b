"""Which views see a task: the same as if each were asked."""

from hypothesis import given
from hypothesis import strategies as st

from gateway import views
from gateway.access.grants import View
from gateway.views import Views

GUID = "bdc8e99d-dd8a-40e9-8840-f9f8eef16c72"
NAMES = st.one_of(
    st.text("abA*?-", min_size=1, max_size=5),
    st.sampled_from([GUID, GUID.replace("-", ""), GUID.upper(), GUID[:10] + "*", "Jan-31-25_03-45-12-PM", "Jan-31*"]),
)
IDS = st.one_of(st.text("abA-", min_size=1, max_size=5), st.sampled_from([GUID, GUID.upper(), "Jan-31-25_03-45-12-pm"]))


@given(st.lists(st.tuples(st.frozensets(NAMES, max_size=4), st.booleans()), max_size=8), st.lists(IDS, max_size=5))
def test_looking_up_finds_whom_asking_would(claims: list[tuple[frozenset[str], bool]], ids: list[str]) -> None:
    index, there = Views(), []
    for patterns, stays in claims:
        view = View(patterns)
        index.add(view)
        index.add(view)
        index.remove(view)
        if stays:
            there.append(view)
        else:
            index.remove(view)
    for id in ids:
        assert set(index.seeing(id)) == {view for view in there if view.sees(id)}
    for view in there:
        index.remove(view)
    for left in (index._by_id, index._by_beginning, index._lengths, index._names):
        assert not left


def test_there_is_room_for_so_many_and_for_those_that_are_there() -> None:
    index, kept = Views(), [View(frozenset({f"*{n}"})) for n in range(views.MOST_SEARCHED)]
    for view in kept:
        assert index.has_room_for(view)
        index.add(view)
    assert not index.has_room_for(View(frozenset({"*x"})))
    assert index.has_room_for(kept[0])
    assert index.has_room_for(View(frozenset({"x*"})))
    index.remove(kept[0])
    assert index.has_room_for(View(frozenset({"*x"})))
    large = View(frozenset({str(n) for n in range(views.MOST_NAMES)}))
    assert not index.has_room_for(large)
