"""A head for others to join: where it is, and with whose token."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chrono_ray import settings
from chrono_ray.cluster import owner
from chrono_ray.cluster.head import Address
from chrono_ray.cluster.owner import Owner
from chrono_ray.model.errors import SettingsError

JOINED = {
    "CHRONO_RAY_HOST": "10.0.0.1",
    "CHRONO_DATABASE_URL": "postgresql://u:p@db/x",
    "CHRONO_REDIS_URL": "redis://redis/0",
    "CHRONO_MEILISEARCH_URL": "http://127.0.0.1:7700",
    "CHRONO_MEILISEARCH_KEY": "0123456789abcdef",
}


@pytest.mark.parametrize("named", ["", "/nowhere/token"])
def test_without_a_token_that_others_have_it_is_not_started(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(owner.AUTH_PATH, named)
    chosen = settings.load({**JOINED, "CHRONO_DATA_DIR": str(tmp_path)})
    with pytest.raises(SettingsError, match="token") as caught:
        Owner(chosen, api=True)
    assert owner.AUTH_PATH in caught.value.why
    assert caught.value.fix


def test_its_drivers_look_for_it_where_it_is(tmp_path: Path) -> None:
    """Ray's switch for loopback would have them look there."""
    alone = Address("127.0.0.1:6379", "http://127.0.0.1:8265", tmp_path).environment({})
    joined = Address("10.0.0.1:6379", "http://10.0.0.1:8265", tmp_path).environment({})
    assert set(alone) - set(joined) == {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
    assert joined["RAY_AUTH_MODE"] == "token"


async def test_with_all_servers_elsewhere_an_owner_stays_until_it_is_told_to_go(
    tmp_path: Path,
) -> None:
    """Nothing is watched then, which is no end of what is."""
    elsewhere = {name: value for name, value in JOINED.items() if name != "CHRONO_RAY_HOST"}
    elsewhere |= {"CHRONO_RAY_ADDRESS": "10.0.0.1:6379", "CHRONO_DATA_DIR": str(tmp_path)}
    keeper, stop = Owner(settings.load(elsewhere), api=True), asyncio.Event()
    keeping = asyncio.create_task(keeper._keep(stop))
    done, _ = await asyncio.wait({keeping}, timeout=0.2)
    assert not done
    stop.set()
    await asyncio.wait_for(keeping, 5)
