"""What the client never sends, whatever it is given or told by its environment."""

from __future__ import annotations

import socket

import pytest

from chrono_ray.client import Chrono
from chrono_ray.client.transport import segment
from chrono_ray.model.errors import InvalidInput, Unavailable


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_no_name_leads_to_another_place(name: str):
    with pytest.raises(InvalidInput):
        segment(name)


def test_what_a_name_holds_stays_in_its_segment():
    assert segment("a/../b?c#d") == "a%2F..%2Fb%3Fc%23d"


def test_no_proxy_of_the_environment_is_told_a_token(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        nowhere = Chrono("http://127.0.0.1:1", token="crk_secret", patience=0)
        with nowhere as c, pytest.raises(Unavailable):
            c.users.me()
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
