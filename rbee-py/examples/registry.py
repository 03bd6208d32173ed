"""A store in Python: the queue in an SQLite file. Others can be made of it, for PostgreSQL for instance."""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import rbee
from rbee.registry import (
    Change,
    HiveChange,
    HiveGone,
    HivePut,
    JobChange,
    JobEnded,
    JobErased,
    JobFilter,
    JobQueued,
    JobRecord,
    JobRequeued,
    JobRunning,
    JobTokens,
    JobVectors,
    ModelGone,
    ModelPut,
    PolicyFilter,
    PolicyPut,
    PolicyRecord,
    Snapshot,
    TenantGone,
    TenantPut,
    TenantRecord,
    WorkerGone,
    WorkerPut,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    epoch INTEGER PRIMARY KEY AUTOINCREMENT, queen TEXT, lease REAL, until REAL, ended INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner INTEGER, position INTEGER, tenant TEXT, state TEXT, record TEXT);
CREATE INDEX IF NOT EXISTS jobs_in_order ON jobs (position);
CREATE TABLE IF NOT EXISTS chunks (job TEXT, position INTEGER, chunk TEXT, PRIMARY KEY (job, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hives (id TEXT PRIMARY KEY, owner INTEGER, record TEXT);
CREATE TABLE IF NOT EXISTS models (hive TEXT, model TEXT, record TEXT, PRIMARY KEY (hive, model));
CREATE TABLE IF NOT EXISTS workers (hive TEXT, worker TEXT, record TEXT, PRIMARY KEY (hive, worker));
CREATE TABLE IF NOT EXISTS tenants (id TEXT PRIMARY KEY, record TEXT);
CREATE TABLE IF NOT EXISTS usage (day INTEGER, tenant TEXT, tokens INTEGER, PRIMARY KEY (day, tenant));
CREATE TABLE IF NOT EXISTS policies (version INTEGER PRIMARY KEY, record TEXT);
"""
DAY = 24 * 3600
ENDED_KEPT = 10_000
POLICIES_KEPT = 100
USAGE_DAYS = 31
#: The runs that may write.
ALIVE = "SELECT epoch FROM runs WHERE NOT ended"


class SqliteStore:
    """A store in an SQLite file. Several queens can share it, also in other processes."""

    def __init__(self, path: str | PathLike[str], clock: Callable[[], float] = time.time) -> None:
        # Methods are called in threads of rbee's, one at a time.
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.clock = clock
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.executescript(SCHEMA)

    def open(self, queen: str, lease: float) -> Snapshot:
        with self.transaction():
            self.run("UPDATE runs SET ended = 1 WHERE queen = ?", queen)
            until = self.clock() + lease
            epoch = self.run("INSERT INTO runs (queen, lease, until) VALUES (?, ?, ?)", queen, lease, until).lastrowid
            assert epoch is not None
            self.remove_old()
            return self.take_over(epoch)

    def record(self, epoch: int, changes: Sequence[Change]) -> None:
        with self.transaction():
            self.check_run(epoch)
            for change in changes:
                if isinstance(change, JobChange):
                    self.change_job(epoch, change)
                elif isinstance(change, HiveChange):
                    self.change_hive(epoch, change)
                else:
                    self.change_other(change)

    def renew(self, epoch: int) -> Snapshot:
        with self.transaction():
            self.check_run(epoch)
            self.run("UPDATE runs SET until = ? + lease WHERE epoch = ?", self.clock(), epoch)
            return self.take_over(epoch)

    def release(self, epoch: int) -> None:
        with self.transaction():
            if not self.run("UPDATE runs SET ended = 1 WHERE epoch = ? AND NOT ended", epoch).rowcount:
                return
            for job in self.records("SELECT record FROM jobs WHERE owner = ? AND state = 'running'", epoch):
                job.update(state="queued", worker=None, attempts=max(job["attempts"] - 1, 0))
                self.write_job(job)

    def jobs(self, filter: JobFilter) -> list[JobRecord]:
        conditions: list[tuple[str, object]] = []
        if filter.id is not None:
            conditions.append(("id = ?", filter.id))
        if filter.tenant is not None:
            conditions.append(("tenant = ?", filter.tenant))
        if filter.before is not None:
            conditions.append(("position < ?", filter.before))
        if filter.states:
            conditions.append(("state IN (SELECT value FROM json_each(?))", json.dumps(filter.states)))
        where = " AND ".join(condition for condition, _ in conditions) or "1"
        found = self.records(
            f"SELECT record FROM jobs WHERE {where} ORDER BY position DESC, id LIMIT ?",
            *(value for _, value in conditions),
            filter.limit,
        )
        for job in found:
            if filter.with_text:
                job["chunks"] = self.chunks(job["id"])
            else:
                job.update(request=None, vectors=None)
        return found

    def policies(self, filter: PolicyFilter) -> list[PolicyRecord]:
        newest_first = "SELECT record FROM policies WHERE version = IFNULL(?, version) ORDER BY version DESC LIMIT ?"
        return self.records(newest_first, filter.version, filter.limit)[::-1]

    @contextmanager
    def transaction(self) -> Generator[None]:
        try:
            self.run("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            # Another process writes for long. The queen tries again.
            storage = rbee.Storage(str(error))
            storage.retry_after = 1.0
            raise storage from error
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.run("ROLLBACK")
            raise

    def run(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self.database.execute(statement, values)

    def records(self, query: str, *values: object) -> list[Any]:
        return [json.loads(record) for (record,) in self.run(query, *values)]

    def chunks(self, job: str) -> list[Any]:
        return self.records("SELECT chunk FROM chunks WHERE job = ? ORDER BY position", job)

    def check_run(self, epoch: int) -> None:
        if not self.run(f"SELECT 1 WHERE ? IN ({ALIVE})", epoch).fetchone():
            raise rbee.Fenced(f"epoch {epoch} is over")

    def take_over(self, epoch: int) -> Snapshot:
        """Ends the runs whose leases are over, and gives this run the rows that have no owner."""
        now = self.clock()
        self.run("UPDATE runs SET ended = 1 WHERE until <= ? AND epoch != ?", now, epoch)
        jobs = self.records(
            f"SELECT record FROM jobs WHERE state IN ('queued', 'running') AND owner NOT IN ({ALIVE}) ORDER BY position, id"
        )
        for job in jobs:
            job.update(owner=epoch, taken_over=True, restarts=job["restarts"] + (job["state"] == "running"))
            self.write_job(job)
            job["chunks"] = self.chunks(job["id"])
        hives = self.records(f"SELECT record FROM hives WHERE owner NOT IN ({ALIVE})")
        names = json.dumps([hive["id"] for hive in hives])
        self.run(f"UPDATE hives SET owner = ? WHERE owner NOT IN ({ALIVE})", epoch)
        of_hives = "WHERE hive IN (SELECT value FROM json_each(?))"
        return {
            "epoch": epoch,
            "jobs": jobs,
            "hives": hives,
            "models": self.records(f"SELECT record FROM models {of_hives}", names),
            "workers": self.records(f"SELECT record FROM workers {of_hives}", names),
            "tenants": self.tenants(now),
        }

    def tenants(self, now: float) -> list[TenantRecord]:
        used: dict[str, int] = dict(self.run("SELECT tenant, tokens FROM usage WHERE day = ?", now // DAY).fetchall())
        tenants: list[TenantRecord] = self.records("SELECT record FROM tenants")
        for tenant in tenants:
            tenant["used_tokens"] = used.get(tenant["id"], 0)
        return tenants

    def write_job(self, job: dict[str, Any]) -> None:
        """Writes a job that is stored; its chunks are in a table of their own."""
        self.run(
            "UPDATE jobs SET owner = ?, state = ?, record = ? WHERE id = ?",
            job["owner"],
            job["state"],
            json.dumps({**job, "chunks": []}),
            job["id"],
        )

    def add_chunks(self, job: str, position: int, chunks: list[dict[str, Any]]) -> None:
        rows = [(job, position + number, json.dumps(chunk)) for number, chunk in enumerate(chunks)]
        self.database.executemany("INSERT INTO chunks VALUES (?, ?, ?)", rows)

    def change_job(self, epoch: int, change: JobChange) -> None:
        found: list[dict[str, Any]] = self.records("SELECT record FROM jobs WHERE id = ?", change.job)
        if isinstance(change, JobErased):
            if found and found[0]["outcome"] is not None:
                self.run("DELETE FROM chunks WHERE job = ?", change.job)
                self.write_job({**found[0], "request": None, "vectors": None, "output_kept": False})
            return
        if found and found[0]["owner"] != epoch:
            raise rbee.Fenced(f"job {change.job} belongs to epoch {found[0]['owner']}, and not to {epoch}")
        if isinstance(change, JobQueued):
            if not found:
                self.add_job(epoch, change.record)
            return
        if not found or found[0]["outcome"] is not None:
            return
        [job] = found
        if isinstance(change, JobRunning):
            started_at = change.at if job["started_at"] is None else job["started_at"]
            job.update(state="running", worker=change.worker, attempts=change.attempt, started_at=started_at)
            if job["tokens_generated"] == 0:
                job["numerics"] = change.numerics
                job["format"] = change.format
        elif isinstance(change, JobRequeued):
            job.update(state="queued", worker=None, attempts=change.attempts)
        elif isinstance(change, JobTokens):
            if job["tokens_generated"] == change.position:
                self.add_chunks(change.job, change.position, change.chunks)
                job.update(tokens_generated=change.position + len(change.chunks), restarts=0)
        elif isinstance(change, JobVectors):
            job["vectors"] = change.vectors
        elif isinstance(change, JobEnded):
            self.end_job(job, change)
        else:
            raise rbee.Storage(f"this store does not know {type(change).__name__}")
        self.write_job(job)

    def add_job(self, epoch: int, record: JobRecord) -> None:
        job: dict[str, Any] = {**record, "owner": epoch}
        if job["outcome"] is None:
            job["tokens_generated"] = len(job["chunks"])
        values = job["id"], job["order"], job["tenant"]
        self.run("INSERT INTO jobs (id, position, tenant) VALUES (?, ?, ?)", *values)
        self.add_chunks(job["id"], 0, job["chunks"])
        self.write_job(job)

    def end_job(self, job: dict[str, Any], end: JobEnded) -> None:
        outcome = end.outcome
        job.update(state=outcome["kind"], outcome=outcome, completed_at=end.at, output_kept=end.keep_output)
        if outcome["kind"] == "complete":
            job["tokens_generated"] = outcome["usage"]["completion_tokens"]
        if not end.keep_request:
            job["request"] = None
        if not end.keep_output:
            job["vectors"] = None
            self.run("DELETE FROM chunks WHERE job = ?", job["id"])
        if job["tenant"] is not None:
            self.run(
                "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens",
                end.at // 1000 // DAY,
                job["tenant"],
                end.used_tokens,
            )

    def change_hive(self, epoch: int, change: HiveChange) -> None:
        owner = self.run("SELECT owner FROM hives WHERE id = ?", change.hive).fetchone()
        if owner is not None and owner[0] != epoch:
            raise rbee.Fenced(f"hive {change.hive} belongs to epoch {owner[0]}, and not to {epoch}")
        if isinstance(change, HivePut):
            self.run("REPLACE INTO hives VALUES (?, ?, ?)", change.hive, epoch, json.dumps(change.record))
        elif isinstance(change, HiveGone):
            self.run("DELETE FROM hives WHERE id = ?", change.hive)
            self.run("DELETE FROM models WHERE hive = ?", change.hive)
            self.run("DELETE FROM workers WHERE hive = ?", change.hive)
        elif isinstance(change, ModelPut):
            if owner is not None:
                self.run("REPLACE INTO models VALUES (?, ?, ?)", change.hive, change.model, json.dumps(change.record))
        elif isinstance(change, ModelGone):
            self.run("DELETE FROM models WHERE hive = ? AND model = ?", change.hive, change.model)
        elif isinstance(change, WorkerPut):
            if owner is not None:
                self.run("REPLACE INTO workers VALUES (?, ?, ?)", change.hive, change.worker, json.dumps(change.record))
        elif isinstance(change, WorkerGone):
            self.run("DELETE FROM workers WHERE hive = ? AND worker = ?", change.hive, change.worker)
        else:
            raise rbee.Storage(f"this store does not know {type(change).__name__}")

    def change_other(self, change: TenantPut | TenantGone | PolicyPut) -> None:
        if isinstance(change, TenantPut):
            self.run("REPLACE INTO tenants VALUES (?, ?)", change.tenant, json.dumps(change.record))
        elif isinstance(change, TenantGone):
            self.run("DELETE FROM tenants WHERE id = ?", change.tenant)
        else:
            self.run("INSERT OR IGNORE INTO policies VALUES (?, ?)", change.version, json.dumps(change.record))
            oldest = "SELECT version FROM policies ORDER BY version DESC LIMIT -1 OFFSET ?"
            self.run(f"DELETE FROM policies WHERE version IN ({oldest})", POLICIES_KEPT)

    def remove_old(self) -> None:
        """Removes what nobody needs any more, so that the file does not grow for ever."""
        ended = "SELECT id FROM jobs WHERE state NOT IN ('queued', 'running') ORDER BY position DESC LIMIT -1 OFFSET ?"
        self.run(f"DELETE FROM jobs WHERE id IN ({ended})", ENDED_KEPT)
        self.run("DELETE FROM chunks WHERE job NOT IN (SELECT id FROM jobs)")
        self.run("DELETE FROM usage WHERE day <= ?", self.clock() // DAY - USAGE_DAYS)


if __name__ == "__main__":
    directory = tempfile.TemporaryDirectory()
    path = Path(sys.argv[1] if len(sys.argv) > 1 else directory.name) / "queue.db"
    with rbee.Queen(registry=SqliteStore(path)) as queen:
        job = queen.submit(prompt="What is a bee?", max_tokens=20, seed=1, detached=True)
        print("answer:", job.result().text)
    # The next run has it.
    with rbee.Queen(registry=SqliteStore(path)) as queen:
        for record in queen.jobs():
            print("stored:", record.state, record.tokens, "tokens")
