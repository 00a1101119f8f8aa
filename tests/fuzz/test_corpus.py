"""What the guided fuzzer has found worth keeping: inputs that together take every branch it reached."""

from tests.fuzz.guided import check, corpus


def test_core_and_reference_agree_on_the_corpus() -> None:
    """Tallies, dead letters and cells of every input; `make fuzz` adds to them."""
    inputs = corpus()
    assert len(inputs) > 100
    for data in inputs:
        check(data)
