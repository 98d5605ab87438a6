"""Simulation on a dask.distributed cluster: an executor for ``circuits.plan.run``."""

import contextlib
import importlib
import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor
from typing import Any

from circuits.errors import ParameterError, SimulationError
from circuits.plan import simulator_version

CONNECT_S = 10.0  # longest wait for the scheduler
START = "start them: dask scheduler; dask worker ADDRESS --nthreads 1 --nworkers 8"


@contextlib.contextmanager
def cluster_executor(address: str) -> Iterator[Executor]:
    """Connect to a scheduler and give an executor that simulates on its workers.

    A job whose worker dies is given to another; results are kept in the cache of this machine.

    Parameters
    ----------
    address : str
        Of the scheduler, for example ``tcp://10.0.0.1:8786``.

    Raises
    ------
    ParameterError
        dask.distributed is not installed.
    SimulationError
        No scheduler answers, it has no workers, they lack this package or run another ngspice, or
        the cluster is lost while it works.
    """
    try:
        dask: Any = importlib.import_module("distributed")
    except ImportError:
        raise ParameterError("--cluster needs dask.distributed: pip install '.[cluster]'") from None
    # its loggers print tracebacks of their own; what they mean for the job is said below
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = dask.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SimulationError(f"no scheduler answers at {address} ({error}); {START}") from None
    try:
        _check_workers(client.run(_worker_version, on_error="return"), address)
        yield client.get_executor(pure=False)
    except (dask.KilledWorker, dask.comm.CommClosedError, CancelledError) as error:
        raise SimulationError(
            f"the cluster at {address} was lost ({error!r:.200}); what is finished is kept: "
            "run the same command again"
        ) from None
    finally:
        client.close(timeout=CONNECT_S)


def _worker_version() -> str:
    return simulator_version()


def _check_workers(answers: dict[str, object], address: str) -> None:
    """Refuse a cluster whose results would not be this machine's."""
    if not answers:
        raise SimulationError(f"the scheduler at {address} has no workers; {START}")
    ours = simulator_version()
    for worker, found in answers.items():
        if found != ours:
            raise SimulationError(
                f"worker {worker} answers {found!r}, this machine runs {ours!r}: all need the same"
                " ngspice and this package"
            )
