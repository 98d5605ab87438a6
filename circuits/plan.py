"""Plans of simulation jobs: cache, pool of worker processes, retries, results in input order."""

import atexit
import contextlib
import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from circuits.cache import Cache, make_key
from circuits.claims import Claims
from circuits.errors import SimulationError
from circuits.session import REJECTED

log = logging.getLogger(__name__)

TIMEOUT_S = 300.0
STARTUP_TIMEOUT_S = 120.0
HOPELESS = 8  # so many netlists rejected, and none accepted: a mistake in the cards


@dataclass(frozen=True)
class Job:
    """One netlist to simulate; ``vectors`` are the names to bring back."""

    name: str
    netlist: str
    vectors: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What came of a job: status 0 ok, 1 ok after a retry, 2 failed (then ``vectors`` is empty)."""

    name: str
    status: int
    vectors: dict[str, NDArray[Any]]
    message: str


@dataclass(frozen=True)
class Provenance:
    """Where a characterisation came from.

    Attributes
    ----------
    simulator : str
        For example ``ngspice-39``.
    netlists : dict of str to str
        One complete netlist for each kind of job.
    sha256 : str
        Over the texts of all jobs, in order.
    jobs, failed : int
        Number of jobs, and how many of them failed.
    """

    simulator: str
    netlists: dict[str, str]
    sha256: str
    jobs: int
    failed: int


@dataclass
class RunLog:
    """Collects what ``Provenance`` needs while a characterisation runs its plans."""

    netlists: dict[str, str] = field(default_factory=dict)
    jobs: int = 0
    failed: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, jobs: Sequence[Job], results: Sequence[Result]) -> None:
        """Note the jobs of one plan and their results."""
        for job in jobs:
            self.digest.update(job.netlist.encode())
            self.netlists.setdefault(job.name.partition(" ")[0], job.netlist)
        self.jobs += len(jobs)
        self.failed += sum(result.status == 2 for result in results)

    def provenance(self) -> Provenance:
        """Return the summary."""
        return Provenance(
            simulator_version() if self.failed < self.jobs else "not run",
            dict(self.netlists),
            self.digest.hexdigest(),
            self.jobs,
            self.failed,
        )


class _Worker:
    """One worker process, started when needed, replaced when spent, dead or too slow."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None
        self.closed = False

    def start(self) -> str:
        """Start the process; return the simulator's version."""
        ours, theirs = Pipe()
        package = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "circuits.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_THREAD_LIMIT": "1", "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent; it stops the workers itself
            )
        finally:
            theirs.close()
        self.connection = ours
        kind, text = self._receive(STARTUP_TIMEOUT_S)
        if kind != "ready":
            self.stop()
            raise SimulationError(str(text))
        return str(text)

    def run(self, job: Job, timeout_s: float) -> tuple[int, dict[str, NDArray[Any]], str]:
        """Simulate; a worker that dies is replaced and the job tried once more."""
        for repeat in (False, True):
            if self.closed:
                raise SimulationError("the pool was stopped")
            try:
                if self.process is None:
                    self.start()
                assert self.connection is not None
                self.connection.send((job.netlist, job.vectors))
                status, vectors, message, last = self._receive(timeout_s)
            except TimeoutError:
                self.stop()
                return 2, {}, f"no answer within {timeout_s:g} s"
            except (EOFError, OSError):
                self.stop()
                if repeat:
                    return 2, {}, "ngspice crashed twice on this netlist"
                continue
            if last:
                self.stop()
            return (1 if repeat and status == 0 else status), vectors, message
        raise AssertionError("unreachable")

    def _receive(self, timeout_s: float) -> Any:
        assert self.connection is not None
        if not self.connection.poll(timeout_s):
            raise TimeoutError
        return self.connection.recv()

    def stop(self) -> None:
        """End the process, at once."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class WorkerPool(Executor):
    """A ``concurrent.futures`` executor: threads that each own one worker process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.broken = False
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="ngspice")
        self._local = threading.local()
        self._all: list[_Worker] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run ``fn`` in a thread; ``simulate_job`` finds this thread's worker process."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def _call(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if fn is not simulate_job:
            return fn(*args, **kwargs)
        if self.broken:
            raise SimulationError("the pool was stopped")
        worker = getattr(self._local, "worker", None)
        if worker is None:
            worker = self._local.worker = _Worker()
            self._all.append(worker)
        return worker.run(*args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the worker processes; running jobs are lost, finished ones are not."""
        self.broken = True
        for worker in self._all:
            worker.closed = True
            process = worker.process
            if process is not None:
                process.kill()
        self._threads.shutdown(wait=wait, cancel_futures=True)
        for worker in self._all:
            worker.stop()


_pools: dict[int, WorkerPool] = {}
_version: dict[str, str] = {}


def simulate_job(
    job: Job, timeout_s: float = TIMEOUT_S
) -> tuple[int, dict[str, NDArray[Any]], str]:
    """Simulate one job in this machine's pool; what a foreign executor (dask) is given to run."""
    return shared_pool(1).submit(simulate_job, job, timeout_s).result()  # type: ignore[no-any-return]


def shared_pool(workers: int) -> WorkerPool:
    """Return the process-wide pool of that size, started on first use and kept for later plans."""
    pool = _pools.get(workers)
    if pool is None or pool.broken:
        pool = _pools[workers] = WorkerPool(workers)
    return pool


@atexit.register
def close_pools() -> None:
    """Stop all worker processes."""
    while _pools:
        _pools.popitem()[1].shutdown()


def simulator_version() -> str:
    """Return for example ``ngspice-39``; asks a worker once per Python process.

    Raises
    ------
    SimulationError
        When libngspice is missing.
    """
    if "version" not in _version:
        worker = _Worker()
        try:
            _version["version"] = worker.start()
        except TimeoutError:
            raise SimulationError("the ngspice worker did not start in time") from None
        except (EOFError, OSError) as error:
            raise SimulationError(f"the ngspice worker died at its start ({error!r})") from error
        finally:
            worker.stop()
    return _version["version"]


def default_workers() -> int:
    """Return the number of CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def run(
    jobs: Iterable[Job],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    cache: Cache | Path | str | None = None,
    progress: str | None = None,
    timeout_s: float = TIMEOUT_S,
    record: list[Job] | None = None,
) -> list[Result]:
    """Run jobs and return their results in the order of the jobs; equal ones are run once.

    Parameters
    ----------
    jobs : iterable of Job
    workers : int, optional
        Number of ngspice processes; default one per CPU.
    executor : Executor, optional
        Used instead of the pool, for example ``dask.distributed.Client(...).get_executor()``.
    cache : Cache or path, optional
        Where results are kept; default ``NLDPE_CACHE``.
    progress : str, optional
        Text of a progress bar, shown when stderr is a terminal.
    timeout_s : float
        Longest time for one job.
    record : list of Job, optional
        Dry run: the jobs are appended to this list, nothing is simulated, and all count as failed.

    Returns
    -------
    list of Result
        Failed jobs have status 2; their netlist and log are kept and ``message`` names them.

    Raises
    ------
    SimulationError
        When ngspice is missing, or rejects the first netlists one and all.
    KeyboardInterrupt
        Passed on at once; everything finished until then is in the cache.
    """
    plan = list(jobs)
    if record is not None:
        record.extend(plan)
        return [Result(job.name, 2, {}, "dry run") for job in plan]
    store = cache if isinstance(cache, Cache) else Cache(Path(cache) if cache else None)
    simulator = simulator_version()
    keys = [make_key(job.netlist, job.vectors, simulator) for job in plan]
    found: dict[str, Result] = {}
    missing = {}
    for job, key in zip(plan, keys, strict=True):
        if (hit := store.load(key)) is not None:
            found[key] = Result(job.name, *hit, "cached")
        else:
            missing[key] = job
    if missing:
        pool = executor if executor is not None else shared_pool(workers or default_workers())
        work = _simulate(missing, pool, store, timeout_s)
        with _bar(progress, len(missing)) as bar, contextlib.closing(work):
            for key, result in work:
                found[key] = result
                bar.update(1)
    return [replace(found[key], name=job.name) for job, key in zip(plan, keys, strict=True)]


def _simulate(
    missing: dict[str, Job], pool: Executor, store: Cache, timeout_s: float
) -> Generator[tuple[str, Result], None, None]:
    """Simulate jobs, by their keys; what another process is at, or has done, is taken from it."""
    claims = Claims(store.root)
    rest, first = dict(missing), list[str]()
    while rest:
        futures = {}
        try:
            for key in claims.take(list(rest)):
                job = rest.pop(key)
                hit = store.load(key)
                if hit is None:
                    futures[pool.submit(simulate_job, job, timeout_s)] = key
                    continue
                claims.release(key)
                yield key, Result(job.name, *hit, "cached")
            for future in as_completed(futures):
                key = futures[future]
                result = _finish(missing[key], key, future.result(), store)
                claims.release(key)
                first.append(result.message)
                _stop_if_hopeless(first, len(missing))
                yield key, result
        except BaseException:
            for future in futures:
                future.cancel()
            _keep_finished(futures, missing, store)
            for key in futures.values():
                claims.release(key)
            if isinstance(pool, WorkerPool):
                pool.shutdown()
            raise


def _stop_if_hopeless(messages: list[str], planned: int) -> None:
    """Raise when ngspice has rejected the first netlists one and all; each costs a process."""
    if len(messages) == HOPELESS and all(REJECTED in text for text in messages):
        raise SimulationError(
            f"ngspice rejected the first {HOPELESS} of {planned} netlists: correct the cards and "
            "run the same command again"
        )


def _finish(
    job: Job, key: str, answer: tuple[int, dict[str, NDArray[Any]], str], store: Cache
) -> Result:
    status, vectors, message = answer
    if status == 2:
        path = store.keep_failed(job.name, job.netlist, message)
        message = f"{job.name}: {message}\n  netlist kept; rerun it with: ngspice -b {path}"
        log.warning("%s", message)
    else:
        store.store(key, status, vectors)
    return Result(job.name, status, vectors, message)


def _keep_finished(futures: "dict[Future[Any], str]", jobs: dict[str, Job], store: Cache) -> None:
    """Store what was simulated but not yet collected when an interrupt came."""
    for future, key in futures.items():
        if future.done() and not future.cancelled() and store.load(key) is None:
            with contextlib.suppress(Exception):
                _finish(jobs[key], key, future.result(), store)


def _bar(text: str | None, total: int) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total, desc=text, disable=text is None or not sys.stderr.isatty(), leave=False
    )
