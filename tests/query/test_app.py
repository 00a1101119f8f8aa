"""What the application does by itself, before anybody asks."""

import asyncio
from typing import Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException
from structlog.testing import capture_logs

from orgstats.query.app import Health, create_app
from orgstats.query.settings import QuerySettings
from tests.support.wait import wait_for


def test_a_readonly_user_is_told_at_the_start_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """readonly=1 refuses every statement for its settings: one line says so and what to change, after `started`."""
    asked: list[str] = []

    def refuse(_: Client, query: str, *__: Any, **___: Any) -> None:
        asked.append(query)
        raise ServerException("DB::Exception: Cannot modify 'max_execution_time' setting in readonly mode.", 164)

    monkeypatch.setattr(Client, "execute", refuse)
    monkeypatch.setattr("orgstats.query.app.LOOK_SECONDS", 0.01)
    health = Health()
    app = create_app(
        QuerySettings.from_env({"ORGSTATS_CLICKHOUSE_URL": "clickhouse://127.0.0.1:1/none"}), health=health
    )

    async def start() -> None:
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0)
            assert asked == []
            health.started.set()
            await asyncio.to_thread(wait_for, lambda: len(asked) >= 2, 10)

    with capture_logs() as lines:
        asyncio.run(start())
    (told,) = [line for line in lines if "cannot be read" in line["event"]]
    assert "the API needs readonly=2" in told["error"]
