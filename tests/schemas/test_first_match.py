"""The quick search for the first rule finds what trying one rule after the other finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgstats.consumer.counting import first_match
from orgstats.consumer.counting.first_match import FirstMatch
from orgstats.consumer.counting.rules import Rule, parse
from orgstats.schemas.event import Event

CONDITIONS = st.dictionaries(
    st.sampled_from(
        [
            ("org_id", "[0, 1]"),
            ("project_id", "[0]"),
            ("key_id", "[7]"),
            ("remote_addr", '["10.0.0.0/8", "2001:db8::/32"]'),
            ("remote_addr", '["10.1.0.0/16"]'),
            ("user_agent", '["*bot*"]'),
            ("release", '["app@1.*", "*-rc"]'),
            ("environment", '["dev"]'),
            ("error_message", '["*"]'),
            ("url", '["http://localhost*"]'),
        ]
    ).map(" = ".join),
    st.none(),
    min_size=1,
    max_size=3,
).filter(lambda lines: len({line.split()[0] for line in lines}) == len(lines))
RULES = st.lists(CONDITIONS, max_size=70).map(
    lambda rules: parse(
        "\n".join(
            f'[[rule]]\noutcome = "filtered"\nreason = "{n}"\n' + "\n".join(lines) for n, lines in enumerate(rules)
        )
    )
)
TEXTS = st.sampled_from([None, "", "Bot/1", "app@1.2", "2-RC", "dev", "DEV", "http://localhost:1/", "x" * 300])
EVENTS = st.builds(
    Event,
    timestamp=st.just(0),
    org_id=st.sampled_from([None, 0, 1, 2]),
    project_id=st.sampled_from([None, 0, 1]),
    key_id=st.sampled_from([None, 7]),
    remote_addr=st.sampled_from([None, "", "10.1.2.3", "10.2.0.1", "::ffff:10.1.0.9", "2001:db8::1", "192.0.2.1"]),
    user_agent=TEXTS,
    release=TEXTS,
    environment=TEXTS,
    error_message=TEXTS,
    url=TEXTS,
)


@pytest.mark.parametrize("remembered", [1, 8_192])
@given(rules=RULES, events=st.lists(EVENTS, max_size=20))
def test_it_finds_what_trying_each_rule_finds(remembered: int, rules: tuple[Rule, ...], events: list[Event]) -> None:
    """Whatever the rules and however often values come again, the first rule that matches is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_match, "_REMEMBERED", remembered)
        found = FirstMatch(rules)
        for event in [*events, *events]:
            assert found.of(event) is next((rule for rule in rules if rule.matches(event)), None)


def test_what_is_remembered_is_bounded() -> None:
    """Neither many values nor long texts are kept for ever."""
    found = FirstMatch(parse('[[rule]]\noutcome = "filtered"\nreason = "r"\nurl = ["*x*"]'))
    for number in range(20_000):
        found.of(Event(0, url=f"http://{number}"))
    found.of(Event(0, url="x" * 10_000))
    ((_, remembered),) = found._fields
    assert len(remembered) <= 8_192
    assert max(len(str(value)) for value in remembered) < 100
