"""Submitting, reading and finding jobs again, in a thread."""

from __future__ import annotations

from pathlib import Path

import pytest

import rbee


def test_the_pieces_of_a_job_are_its_answer(queen: rbee.Queen) -> None:
    job = queen.submit(prompt="What is a bee?", seed=1, max_tokens=12)
    pieces = list(job)
    answer = job.result()
    assert "".join(pieces) == answer.text
    assert answer.text.startswith("Bees ")
    assert (answer.finish, answer.usage.completion_tokens, len(answer.tokens)) == ("length", 12, 12)
    assert answer.worker is not None


def test_the_same_seed_gives_the_same_answer(queen: rbee.Queen) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a flower."}]
    answers = {queen.submit(messages=messages, seed=7, max_tokens=12).result().text for _ in range(2)}
    assert len(answers) == 1
    assert queen.submit(messages=messages, seed=8, max_tokens=12).result().text not in answers


def test_a_result_after_a_part_was_read_is_whole(queen: rbee.Queen) -> None:
    job = queen.submit(prompt="What is a bee?", seed=1, max_tokens=24)
    first = next(iter(job))
    assert job.result().text.startswith(first)
    assert job.result() == job.result()


def test_events_have_numbers_tokens_and_an_end(queen: rbee.Queen) -> None:
    events = list(queen.submit(prompt="Hi", seed=1, max_tokens=5, logprobs=2).events())
    assert isinstance(events[0], rbee.Started)
    tokens = [event for event in events if isinstance(event, rbee.Token)]
    assert len(tokens) == 5
    assert all(token.logprobs is not None and len(token.logprobs.top) == 2 for token in tokens)
    end = events[-1]
    assert isinstance(end, rbee.End)
    assert (end.finish, end.usage.completion_tokens) == ("length", 5)
    numbers = [event.seq for event in events if event.seq is not None]
    assert numbers == sorted(numbers)


def test_a_job_is_read_again_from_where_a_reader_was(queen: rbee.Queen) -> None:
    job = queen.submit(prompt="What is a bee?", seed=1, max_tokens=12)
    whole = list(job.events())
    # Events without a number are about the reader, and come to each.
    numbered = [event for event in whole if event.seq is not None]
    again = queen.attach(job.id, after=numbered[4].seq).events()
    assert [event for event in again if event.seq is not None] == numbered[5:]
    assert queen.attach(job.id).result() == job.result()


def test_a_cancelled_job_raises_and_is_recorded_so(queen: rbee.Queen) -> None:
    job = queen.submit(prompt="Tell me everything.", max_tokens=400, min_tokens=400)
    next(iter(job))
    job.cancel()
    with pytest.raises(rbee.Cancelled):
        job.result()
    assert queen.job(job.id).state == "cancelled"


def test_dropping_a_job_cancels_it_unless_it_was_detached(queen: rbee.Queen) -> None:
    dropped = queen.submit(prompt="Tell me everything.", max_tokens=400, min_tokens=400)
    kept = queen.submit(prompt="Tell me something.", max_tokens=30, min_tokens=30)
    ids = (dropped.id, kept.id)
    kept.detach()
    del dropped, kept
    with pytest.raises(rbee.Cancelled):
        queen.attach(ids[0]).result()
    assert queen.attach(ids[1]).result().usage.completion_tokens == 30


def test_leaving_with_cancels_a_job(queen: rbee.Queen) -> None:
    with queen.submit(prompt="Tell me everything.", max_tokens=400, min_tokens=400) as job:
        next(iter(job))
    with pytest.raises(rbee.Cancelled):
        job.result()


def test_jobs_are_listed_page_by_page(queen: rbee.Queen) -> None:
    ids: list[str] = []
    for number in range(3):
        job = queen.submit(prompt=f"{number}", max_tokens=1)
        job.result()
        ids.append(job.id)
    page = queen.jobs(limit=2, states=["complete"])
    assert [record.id for record in page] == [ids[2], ids[1]]
    assert queen.jobs(limit=1, before=page[-1].order)[0].id == ids[0]
    assert (page[0].attempts, page[0].tokens, page[0].error) == (1, 1, None)


def test_a_queen_finds_its_jobs_in_its_registry_again(tmp_path: Path) -> None:
    registry = tmp_path / "queen.db"
    with rbee.Queen(id="again", registry=registry) as first:
        job = first.submit(prompt="Hi", seed=3, max_tokens=4, detached=True)
        answer = job.result()
    with rbee.Queen(id="again", registry=registry, local_hive=False) as second:
        record = second.job(job.id)
        assert second.attach(job.id).result().text == answer.text
    assert (record.state, record.tokens, record.text) == ("complete", 4, answer.text)


def test_a_second_request_with_the_same_key_is_the_same_job(queen: rbee.Queen) -> None:
    jobs = [queen.submit(prompt="Hi", max_tokens=2, idempotency_key="one") for _ in range(2)]
    assert jobs[0].id == jobs[1].id
    with pytest.raises(rbee.RbeeError):
        queen.submit(prompt="Other", max_tokens=2, idempotency_key="one")
