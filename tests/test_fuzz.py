"""A little of what `python -m tests.fuzz` does for long."""

from tests.fuzz import main


def test_bad_input_gets_the_answers_that_are_named() -> None:
    assert main(20_000, 3_000) == 0
