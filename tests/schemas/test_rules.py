"""The rules file: what it matches, and that every fault of it is told at once with its line."""

import contextlib
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgstats.consumer.counting.globs import matcher
from orgstats.consumer.counting.rules import RulesError, parse
from orgstats.schemas.event import Event
from orgstats.schemas.outcomes import Outcome


def rule(conditions: str) -> str:
    """A file with one rule."""
    return f'[[rule]]\noutcome = "filtered"\nreason = "r"\n{conditions}\n'


def matches(conditions: str, **fields: object) -> bool:
    """Whether a rule with these conditions matches an event with these fields."""
    return parse(rule(conditions))[0].matches(Event(0, **fields))  # type: ignore[arg-type]


def faults(text: str) -> list[tuple[int, str]]:
    """(line, text) of each fault of a file that has some."""
    with pytest.raises(RulesError) as error:
        parse(dedent(text))
    return [(fault.line, fault.text) for fault in error.value.faults]


def test_rules_keep_their_order_outcome_reason_and_line() -> None:
    """A file's rules come in its order, each with outcome, reason and the line of its header."""
    text = rule("org_id = [1]") + '\n[[rule]]\nreason = "limit"\noutcome = "rate_limited"\nkey_id = [2]\n'
    assert [(r.line, r.outcome, r.reason) for r in parse(text)] == [
        (1, Outcome.filtered, "r"),
        (6, Outcome.rate_limited, "limit"),
    ]


def test_an_empty_file_has_no_rules() -> None:
    """A file without rules is valid: publishing it turns every rule off."""
    assert parse("# nothing\n") == ()


def test_all_conditions_of_a_rule_must_hold() -> None:
    """A rule matches only when each of its conditions does."""
    both = 'org_id = [1, 2]\nrelease = ["1.*", "2.*"]'
    assert matches(both, org_id=2, release="1.5")
    assert not matches(both, org_id=3, release="1.5")
    assert not matches(both, org_id=2, release="3.5")
    assert not matches(both, org_id=2)


@pytest.mark.parametrize(
    ("networks", "address", "expected"),
    [
        ('["10.0.0.0/8"]', "10.255.0.1", True),
        ('["10.0.0.0/8"]', "11.0.0.1", False),
        ('["10.0.0.0/8"]', "::ffff:10.1.2.3", True),
        ('["::ffff:10.0.0.0/104"]', "10.1.2.3", True),
        ('["10.1.2.3"]', "10.1.2.3", True),
        ('["10.1.2.3"]', "10.1.2.4", False),
        ('["0.0.0.0/0"]', "::1", False),
        ('["2001:db8::/32", "10.0.0.0/8"]', "2001:DB8::1", True),
        ('["2001:db8::/32", "10.0.0.0/8"]', "2001:db9::1", False),
        ('["0.0.0.0/0", "::/0"]', "10.0.0.1:80", False),
        ('["0.0.0.0/0", "::/0"]', "", False),
        ('["0.0.0.0/0", "::/0"]', "010.0.0.1", False),
        ('["::/0"]', "fe80::1%eth0", True),
        ('["::/0"]', "fe80::1%" + "0" * 1000, False),
    ],
)
def test_addresses_are_compared_as_networks(networks: str, address: str, expected: bool) -> None:
    """remote_addr meets a network that contains it; what is no address meets none."""
    assert matches(f"remote_addr = {networks}", remote_addr=address) is expected


@pytest.mark.parametrize(
    ("glob", "text", "expected"),
    [
        ("*bot*", "GoogleBot/2.1", True),
        ("*bot*", "Mozilla", False),
        ("bot", "a bot", False),
        ("", "", True),
        ("*", "", True),
        ("**", "any\nthing", True),
        ("?", "", False),
        ("a*a", "a", False),
        ("a*b*c", "aXbXbXc", True),
        ("*ab*ab", "abab", True),
        ("*ab*ab", "aab", False),
        ("1.[0-3].*", "1.2.9", True),
        ("1.[0-3].*", "1.4.9", False),
        ("[!a-c]x", "Bx", False),
        ("[!a-c]x", "dx", True),
        ("[]a]", "]", True),
        ("[a-]", "-", True),
        ("[a--]", "b", None),
        ("[+--]", ",", True),
        ("[^a]", "^", True),
        ("[&&~~||]", "|", True),
        ("\\*\\[x\\]", "*[X]", True),
        ("\\*", "a", False),
        ("http://h/?q=*", "http://h/xq=1", True),
        ("ÜBER*", "überall", True),
        ("a.c", "abc", False),
        ("STRASSE*", "Straße 1", True),
        ("ΟΔΟΣ*", "οδοσα", True),
        ("*Σ", "ΟΔΟΣ", True),
        ("a*", "bA", False),
        ("*a", "aB", False),
    ],
)
def test_globs_match_whole_texts_without_case(glob: str, text: str, expected: bool | None) -> None:
    """A glob is matched against the whole text, whatever the case of letters; None: the glob is a fault."""
    if expected is None:
        with pytest.raises(ValueError, match="empty"):
            matcher([glob])
    else:
        assert matches(f"url = ['{glob}']", url=text) is expected


def slow_glob(glob: str, text: str) -> bool:
    """A glob of `*`, `?` and plain characters matched by trying everything."""
    if not glob:
        return not text
    if glob[0] == "*":
        return any(slow_glob(glob[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and glob[0] in ("?", text[0]) and slow_glob(glob[1:], text[1:])


@given(st.text("ab*?", max_size=9), st.text("ab", max_size=9))
def test_globs_agree_with_trying_everything(glob: str, text: str) -> None:
    """The compiled glob gives what the definition gives."""
    assert matcher([glob])(text) == slow_glob(glob, text)


@given(st.lists(st.text("aB*?[]\\", max_size=6)), st.text("aAbB?[", max_size=6))
def test_a_list_of_globs_is_met_when_one_of_them_is(globs: list[str], text: str) -> None:
    """Whatever shapes stand in one list, it decides as its globs do one by one."""
    valid = []
    for glob in globs:
        with contextlib.suppress(ValueError):
            valid.append((glob, matcher([glob])))
    assert matcher([glob for glob, _ in valid])(text) == any(meets(text) for _, meets in valid)


def test_a_hostile_glob_does_not_explode() -> None:
    """Many stars against a long text that nearly matches still end at once."""
    assert not matches(f'url = ["{"*a" * 40}b"]', url="a" * 20_000)


def test_absent_fields_meet_no_condition_but_a_missing_org_is_0() -> None:
    """A field that the event lacks never matches; a missing organization has the id 0."""
    assert not matches('url = ["*"]')
    assert not matches('remote_addr = ["0.0.0.0/0"]')
    assert not matches("project_id = [0]")
    assert matches("org_id = [0]")
    assert not matches("org_id = [1]")


def test_every_fault_is_told_with_its_line() -> None:
    """One pass over a bad file names each fault, in the order of the lines."""
    found = faults(
        """\
        # [[rule]]
        colour = "red"
        [[rule]]
        reason = '''
        [[rule]]
        reason = "no"
        '''
        outcome = "filtred"
        user_agnt = ["*"]
        [[rule]]  # no condition, no outcome, long reason
        reason = "%s"
        [[ "rule" ]]
        outcome = ["filtered"]
        reason = ""
        "remote_addr" = [
          "10.0.0.1/8",  # ]
        ]
        org_id = 5
        project_id = []
        key_id = [true, -1]
        release = [1]
        url = ["[a"]
        error_message = ["x\\\\"]
        environment = ["[b-a]"]
        """
        % ("x" * 65)
    )
    assert [(line, text.split(":")[0:2]) for line, text in found] == [
        (2, ["colour", " unknown; known are rule"]),
        (3, ["rule 1", " has no condition, so it would match every event"]),
        (8, ["rule 1", " outcome"]),
        (9, ["rule 1", " user_agnt"]),
        (10, ["rule 2", " has no condition, so it would match every event"]),
        (10, ["rule 2", " outcome"]),
        (11, ["rule 2", " reason"]),
        (13, ["rule 3", " outcome"]),
        (14, ["rule 3", " reason"]),
        (15, ["rule 3", " remote_addr"]),
        (18, ["rule 3", " org_id"]),
        (19, ["rule 3", " project_id"]),
        (20, ["rule 3", " key_id"]),
        (21, ["rule 3", " release"]),
        (22, ["rule 3", " url"]),
        (23, ["rule 3", " error_message"]),
        (24, ["rule 3", " environment"]),
    ]
    assert "did you mean user_agent?" in found[3][1]
    assert found[9][1].endswith("write 10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[[rule]]\nreason = x\n", 2),
        ("[[rule]]\nreason = 'a", 2),
        ("a = 1\na = 2\n", 2),
        ("[rule]\noutcome = 'filtered'", 1),
        ("\nrule = 5", 2),
        ("rule = [1]", 1),
    ],
)
def test_a_file_of_another_form_names_a_line(text: str, line: int) -> None:
    """What is not TOML, or not a list of rules, is one fault at its line."""
    assert [found for found, _ in faults(text)] == [line]


def test_rules_written_inline_are_rules_too() -> None:
    """An array of inline tables is the same file in other clothes."""
    assert parse('rule = [{outcome="filtered", reason="r", org_id=[1]}]')[0].matches(Event(0, org_id=1))


def test_a_key_that_is_repeated_in_text_does_not_move_its_line() -> None:
    """Lines are those of keys, not of look-alikes in strings, comments and lists."""
    text = rule('user_agent = ["""\nurl = 5""", "a", # url = 1\n "url = 3"]\nurl = 7')
    assert faults(text) == [(7, "rule 1: url: must be a list with at least one value")]
