"""What a connection reads: all of it, in order, in small pieces, and nothing while it is held up."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.intake import Intake
from gateway.slices import SLICE


class Reading:
    """A transport, as far as an intake asks for one, and who takes up what it reads: `piece` bytes at a time."""

    def __init__(self, piece: int) -> None:
        self.reads = True
        self.closing = False
        self.busy = False
        self.taken = b""
        self.held_up = 0
        self._piece = piece
        self.intake = Intake(self, self.take, asyncio.get_running_loop())

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert self.reads
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.reads
        self.reads = True

    def take(self, data: bytes, at: int) -> int:
        assert not self.held_up
        if self.busy:
            return 0
        part = data[at : at + self._piece]
        self.taken += part
        return len(part)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("receive"), st.binary(min_size=1, max_size=40)),
        st.tuples(st.sampled_from(["block", "unblock", "hold", "release", "work", "rest", "turn"]), st.just(b"")),
    ),
    max_size=40,
)


@given(STEPS, st.integers(1, 50))
def test_everything_is_taken_in_order_and_nothing_while_it_is_held_up(
    steps: list[tuple[str, bytes]], piece: int
) -> None:
    async def play() -> None:
        reading, sent, blocked, held = Reading(piece), b"", False, False
        intake = reading.intake
        for step, data in steps:
            match step:
                case "receive":
                    if reading.reads:
                        sent += data
                        intake.receive(data)
                case "block" | "unblock":
                    blocked = step == "block"
                    reading.held_up = blocked + held
                    intake.block() if blocked else intake.unblock()
                case "hold" | "release":
                    held = step == "hold"
                    reading.held_up = blocked + held
                    intake.pause_reading() if held else intake.resume_reading()
                case "work":
                    reading.busy = True
                case "rest":
                    reading.busy = False
                    intake.go_on()
                case "turn":
                    await asyncio.sleep(0)
            assert sent.startswith(reading.taken)
            assert reading.reads == (sent == reading.taken and not (blocked or held))
        reading.busy, reading.held_up = False, 0
        intake.unblock()
        intake.resume_reading()
        intake.go_on()
        while reading.taken != sent:
            await asyncio.sleep(0)
        assert reading.reads
        assert intake.end() == b""

    asyncio.run(play())


async def turns(reading: Reading, data: bytes) -> int:
    """How many turns of the loop pass until all is taken up."""
    reading.intake.receive(data)
    count = 0
    while len(reading.taken) < len(data):
        await asyncio.sleep(0)
        count += 1
    return count


def test_what_costs_much_is_taken_in_many_turns() -> None:
    class Slow(Reading):
        def take(self, data: bytes, at: int) -> int:
            until = asyncio.get_running_loop().time() + SLICE / 2
            while asyncio.get_running_loop().time() < until:
                pass
            return super().take(data, at)

    async def play() -> None:
        assert await turns(Slow(1), b"x" * 20) >= 5

    asyncio.run(play())


def test_one_that_has_ended_takes_nothing_and_gives_back_what_is_left() -> None:
    async def play() -> None:
        reading = Reading(4)
        reading.busy = True
        reading.intake.receive(b"abcdef")
        assert reading.reads is False
        assert reading.intake.end() == b"abcdef"
        assert bool(reading.reads)
        reading.busy = False
        reading.intake.receive(b"more")
        reading.intake.go_on()
        await asyncio.sleep(0)
        assert not reading.taken

    asyncio.run(play())


def test_a_transport_that_closes_is_left_alone() -> None:
    async def play() -> None:
        reading = Reading(4)
        reading.closing = reading.busy = True
        reading.intake.receive(b"abcdef")
        reading.intake.block()
        assert reading.reads

    asyncio.run(play())
