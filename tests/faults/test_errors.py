"""How errors are told apart: what to try again, what a person has to do, and what is a bug."""

import struct

import pytest
from clickhouse_driver import errors as driver_errors

import orgstats.cli.app
from orgstats.clickhouse.connect import RETRYABLE_CODES, translate
from orgstats.errors import ConfigurationError, OrgstatsError, Unavailable


@pytest.mark.parametrize("code", [75, 76, 243, 159, 202, 209, 210, 236, 241, 242, 252, 319, 745, 999])
def test_errors_of_a_busy_or_changing_server_are_tried_again(code: int) -> None:
    """Overload, switching over and shutting down pass."""
    assert code in RETRYABLE_CODES
    assert isinstance(translate(driver_errors.ServerException("DB::Exception: busy", code)), Unavailable)


@pytest.mark.parametrize(("code", "remedy"), [(60, "migrate"), (81, "migrate"), (516, "password"), (497, "grant")])
def test_errors_that_need_a_person_name_the_remedy(code: int, remedy: str) -> None:
    """A missing table, a wrong password and missing rights do not mend themselves."""
    error = translate(driver_errors.ServerException("DB::Exception: no", code))
    assert isinstance(error, ConfigurationError)
    assert remedy in str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (driver_errors.ServerException("DB::Exception: what?", 27), OrgstatsError),
        (driver_errors.TypeMismatchError("expected UInt64"), OrgstatsError),
        (struct.error("argument out of range"), OrgstatsError),
        (driver_errors.NetworkError("reset"), Unavailable),
        (
            driver_errors.ServerException("DB::Exception: Attempt to read after eof: while receiving packet", 32),
            Unavailable,
        ),
        (driver_errors.SocketTimeoutError("slow"), Unavailable),
        (EOFError("cut"), Unavailable),
        (OSError("unreachable"), Unavailable),
    ],
)
def test_bugs_are_not_tried_again_and_broken_connections_are(error: Exception, kind: type[OrgstatsError]) -> None:
    """What the client was wrongly told to send would fail for ever; a cut connection will not."""
    assert type(translate(error)) is kind


def test_the_text_of_an_error_holds_neither_statement_nor_trace() -> None:
    """Only the first line of the server's words goes to the log."""
    told = driver_errors.ServerException("DB::Exception: bad. Stack trace:\n0. secret\nINSERT INTO counts", 27)
    assert str(translate(told)) == "ClickHouse error 27: DB::Exception: bad."


def test_an_unexpected_exception_is_a_bug_and_not_a_difference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with its trace and 70; 1 is what a check says that found a difference."""

    def broken() -> None:
        raise RuntimeError("never seen")

    monkeypatch.setattr(orgstats.cli.app, "app", broken)
    with pytest.raises(SystemExit) as ended:
        orgstats.cli.app.run()
    assert ended.value.code == 70
    assert "never seen" in capsys.readouterr().err
