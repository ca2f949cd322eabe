"""The listener for changes against a real PostgreSQL that cuts its connection."""

from __future__ import annotations

import asyncio
import contextlib

from structlog.testing import capture_logs

from rtx.api.notifications import NotificationListener
from rtx.store.connection import create_pool


async def test_a_cut_connection_is_named_and_made_anew(database_url: str) -> None:
    news: asyncio.Queue[str] = asyncio.Queue()
    pool = await create_pool(database_url, application_name="rtx-test", maximum_size=2)
    listener = NotificationListener(
        pool,
        {"changes": news.put_nowait},
        on_listening=lambda: news.put_nowait("listening"),
        on_deaf=lambda: news.put_nowait("deaf"),
    )
    listening = asyncio.create_task(listener.run())
    try:
        assert await news.get() == "listening"
        with capture_logs() as logs:
            await pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
            assert await news.get() == "deaf"
            while await news.get() != "listening":
                pass
        assert [(entry["event"], entry["error"]) for entry in logs] == [
            ("notifications.unavailable", "the connection was lost")
        ]
        await pool.execute("NOTIFY changes, 'something'")
        assert await news.get() == "something"
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        await pool.close()
