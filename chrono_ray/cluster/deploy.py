"""Short-lived drivers: `python -m chrono_ray.cluster.deploy ORDER...`.

Orders are `record`, `up`, `api` and `drain`. A driver connects to the cluster
named by RAY_ADDRESS, carries them out one after the other, says so of each
(cluster/driver.py) and ends, so that nobody who lives long depends on the
head being alive. An order that fails ends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cluster.driver import DONE
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.pools import NAMESPACE, at_head, existing, options
from chrono_ray.cluster.supervisor import SupervisorActor
from chrono_ray.model.errors import ChronoError

DRAIN_SECONDS: Final = 45.0


def main(orders: Sequence[str]) -> int:
    """0 done, 1 something is still held, 2 there is no such order."""
    ray.init(
        address=os.environ["RAY_ADDRESS"], namespace=NAMESPACE, log_to_driver=False,
        logging_level=logging.WARNING,  # our last lines are shown when something fails
    )  # fmt: skip
    try:
        for order in orders:
            code = carry_out(order)
            if code:
                return code
            sys.stdout.write(f"{DONE}{order}\n")
            sys.stdout.flush()
    finally:
        ray.shutdown()
    return 0


def carry_out(order: str) -> int:
    """One order; its exit code."""
    match order:
        case "record":
            asyncio.run(prepare_record())
        case "up":
            up()
        case "api":
            from chrono_ray.cluster.serve import deploy

            deploy(chrono_environment())
        case "drain":
            return 0 if drain() else 1
        case _:
            sys.stderr.write(f"unknown order {order}\n")
            return 2
    return 0


def chrono_environment() -> dict[str, str]:
    """Our settings, to be handed to actors."""
    return {name: value for name, value in os.environ.items() if name.startswith("CHRONO_")}


async def prepare_record() -> None:
    """Migrate the record where no owner does it: on a cluster that others keep alive."""
    from chrono_ray.storage.migrate import migrate

    settings = chrono_settings.load(chrono_environment())
    record = wiring.database(settings, pool_size=1, name="chrono deploy")
    try:
        await migrate(record)
    finally:
        await record.aclose()


def up() -> None:
    """Make the supervisor, or find it."""
    environment, share = chrono_environment(), budget_here().supervisor
    tied = chrono_settings.load(environment).ray_host is not None
    actor = SupervisorActor.options(
        **options(share, name="supervisor"), resources=at_head(tied=tied)
    ).remote(environment)
    ray.get(actor.status.remote(), timeout=60)


def drain() -> bool:
    """Have every actor end its work and give back what it holds."""
    actor = existing("supervisor")
    if actor is None:
        return True
    try:
        return bool(ray.get(actor.drain.remote(), timeout=DRAIN_SECONDS))
    except (RayActorError, GetTimeoutError):
        return False


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ChronoError as error:
        sys.exit(str(error))
