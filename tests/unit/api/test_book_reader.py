"""Readers of books share questions, and never an answer to a question asked before they came."""

from __future__ import annotations

import asyncio

import pytest

from rtx.api.book_reader import Book, BookReader
from rtx.link.client import EngineTimeoutError
from rtx.link.messages import BookAnswer


class Engine:
    """Answers with the number of the question when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.answers: list[asyncio.Future[Book]] = []

    async def book(self, market_id: int, limit: int) -> Book:
        self.asked.append((market_id, limit))
        answer: asyncio.Future[Book] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        return await answer

    def answer(self, number: int) -> None:
        self.answers[number].set_result((number, BookAnswer(self.asked[number][0], [], [], 0)))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_those_who_ask_together_share_one_question_for_the_most_levels() -> None:
    engine = Engine()
    reader = BookReader(engine.book)
    readers = [asyncio.create_task(reader.book(1, limit)) for limit in (5, 100, 20)]
    await turns()
    assert engine.asked == [(1, 100)]
    engine.answer(0)
    assert [sequence for sequence, _ in await asyncio.gather(*readers)] == [0, 0, 0]


async def test_who_asks_during_a_question_gets_the_next_answer() -> None:
    engine = Engine()
    reader = BookReader(engine.book)
    early = asyncio.create_task(reader.book(1, 5))
    await turns()
    late = [asyncio.create_task(reader.book(1, limit)) for limit in (5, 0, 7)]
    await turns()
    assert engine.asked == [(1, 5)]
    engine.answer(0)
    await turns()
    assert engine.asked == [(1, 5), (1, 0)]
    engine.answer(1)
    assert (await early)[0] == 0
    assert [sequence for sequence, _ in await asyncio.gather(*late)] == [1, 1, 1]


async def test_markets_do_not_wait_for_each_other() -> None:
    engine = Engine()
    reader = BookReader(engine.book)
    readers = [asyncio.create_task(reader.book(market_id, 5)) for market_id in (1, 2)]
    await turns()
    assert engine.asked == [(1, 5), (2, 5)]
    engine.answer(1)
    engine.answer(0)
    await asyncio.gather(*readers)


async def test_an_error_reaches_everybody_who_waited_and_nobody_after() -> None:
    engine = Engine()
    reader = BookReader(engine.book)
    readers = [asyncio.create_task(reader.book(1, 5)) for _ in range(2)]
    await turns()
    engine.answers[0].set_exception(OSError("gone"))
    for waiting in readers:
        with pytest.raises(OSError, match="gone"):
            await waiting
    later = asyncio.create_task(reader.book(1, 5))
    await turns()
    engine.answer(1)
    assert (await later)[0] == 1


async def test_a_reader_that_went_away_disturbs_nobody() -> None:
    engine = Engine()
    reader = BookReader(engine.book)
    gone, staying = (asyncio.create_task(reader.book(1, 5)) for _ in range(2))
    await turns()
    gone.cancel()
    await turns()
    engine.answer(0)
    assert (await staying)[0] == 0


async def test_each_reader_waits_for_its_own_time_and_not_for_that_of_the_question_before() -> None:
    engine = Engine()
    reader = BookReader(engine.book, timeout_s=0.01)
    readers = [asyncio.create_task(reader.book(1, 5))]
    await turns()
    readers.append(asyncio.create_task(reader.book(1, 5)))
    for waiting in readers:
        with pytest.raises(EngineTimeoutError):
            await waiting
    assert engine.asked == [(1, 5)]
    engine.answer(0)
    await turns()
    engine.answer(1)
    await turns()
    later = asyncio.create_task(reader.book(1, 5))
    await turns()
    engine.answer(2)
    assert (await later)[0] == 2
