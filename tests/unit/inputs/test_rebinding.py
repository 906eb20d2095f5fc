"""Inputs 6 and 7: a name is judged by every address it has, each time it is looked up.

The first answer here is public, so a test that connected would leave this
machine: the resolver and the socket factory are asked as the connector asks them.
"""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from chrono_ray.archives.addresses import AddressDenied, AddressPolicy, PolicyResolver

PUBLIC = "93.184.215.14"


class Names(AbstractResolver):
    """Gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=family, proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]  # fmt: skip

    async def close(self) -> None:
        pass


def connect(policy: AddressPolicy, address: str, port: int = 80) -> None:
    """As the connector does before it connects; nothing is sent."""
    policy.open_socket(
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
    ).close()


@pytest.mark.parametrize("private", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
async def test_input_7_a_name_that_turns_private_is_refused(private: str) -> None:
    policy = AddressPolicy(frozenset())
    names = PolicyResolver(policy, Names([PUBLIC], [private]))
    [first] = await names.resolve("turning.example", 80)
    connect(policy, first["host"])
    with pytest.raises(AddressDenied):
        await names.resolve("turning.example", 80)
    with pytest.raises(AddressDenied):
        connect(policy, private)


async def test_input_7_between_lookup_and_connection_nothing_is_granted() -> None:
    """Whatever a resolver's cache may hold: the address connected to has the last word."""
    policy = AddressPolicy(frozenset())
    await PolicyResolver(policy, Names([PUBLIC])).resolve("turning.example", 80)
    with pytest.raises(AddressDenied):
        connect(policy, "127.0.0.1")


@pytest.mark.parametrize("answers", [[PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC]])
async def test_input_6_one_private_address_spoils_the_name(answers: list[str]) -> None:
    names = PolicyResolver(AddressPolicy(frozenset()), Names(answers))
    with pytest.raises(AddressDenied):
        await names.resolve("two-faced.example", 80)


async def test_a_listed_name_that_moves_takes_its_grant_along() -> None:
    policy = AddressPolicy(frozenset({("pywb.example", 8080)}))
    names = PolicyResolver(policy, Names(["127.0.0.1"], ["127.0.0.2"]))
    await names.resolve("pywb.example", 8080)
    connect(policy, "127.0.0.1", 8080)
    await names.resolve("pywb.example", 8080)
    connect(policy, "127.0.0.2", 8080)
    for address, port in (("127.0.0.1", 8080), ("127.0.0.2", 80)):
        with pytest.raises(AddressDenied):
            connect(policy, address, port)
