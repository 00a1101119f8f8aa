"""Which ClickHouse versions the doctor knows to be wrong for what we do."""

import pytest

from orgstats.consumer.ops.clickhouse_versions import FAULTS, OLDEST, OLDEST_TESTED, faults, numbers
from orgstats.consumer.ops.doctor import _version
from tests.support.servers import CLICKHOUSE_IMAGE


@pytest.mark.parametrize(
    ("version", "expected", "replicated"),
    [
        ("23.8.3.48", [], [55026]),
        ("23.8.4.69", [], []),
        ("23.9.1.1", [], [55026]),
        ("24.1.5.6", [60041], [60041]),
        ("24.1.6.52", [], []),
        ("24.2.1.2248", [60041], [60041]),
        ("24.3.2.23", [62268], [62268]),
        ("24.3.3.102", [], []),
        ("24.4.1.2088", [], []),
        ("25.8.2.29", [], []),
        ("26.1.4.35", [], []),
        ("26.2.19.43", [], [108800]),
        ("26.3.17.8", [], [108800]),
        ("26.3.17.9", [], []),
        ("26.3.17.10.altinitystable", [], []),
        ("26.6.2.16", [], [108800]),
        ("26.7.1.1", [], []),
        ("26.9.2.1", [], []),
    ],
)
def test_faults_of_a_version_end_with_the_one_that_has_the_fix(
    version: str, expected: list[int], replicated: list[int]
) -> None:
    """Each release has a fixed version of its own; faults of quorum inserts are none without replicas."""
    assert [one.source for one in faults(version, replicated=False)] == expected
    assert [one.source for one in faults(version, replicated=True)] == replicated


def test_the_doctor_names_version_fault_and_remedy() -> None:
    """To act on where counts could be wrong; a note below what is tested; too old is all that is said of older ones."""
    (wrong, untested) = _version("24.3.2.23", replicated=False)
    assert (wrong.level, untested.level) == ("act", "note")
    assert "24.3.2.23: FINAL may give a wrong result" in wrong.what
    assert wrong.remedy == "upgrade ClickHouse to 24.3.3.102 or at least 24.4"
    assert [one.level for one in _version("26.3.17.8", replicated=True)] == ["act"]
    assert [one.level for one in _version("26.9.2.1", replicated=True)] == ["ok"]
    assert [(one.level, one.remedy) for one in _version("22.8.1.1", replicated=True)] == [("act", "use 25.8 or newer")]


def test_versions_are_in_order_and_the_oldest_tested_is_the_tests_own() -> None:
    """A fix belongs to a release between the first wrong one and the first right one."""
    assert OLDEST < OLDEST_TESTED == numbers(CLICKHOUSE_IMAGE.rpartition(":")[2])[:2]
    for fault in FAULTS:
        assert fault.first < fault.gone
        assert all(
            fault.first <= release < fault.gone and fixed[:2] == release for release, fixed in fault.fixed.items()
        )
