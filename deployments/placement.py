"""Where replicas can go on the nodes of a cluster: what fits nowhere, what is waited for, how many gateways a
node may have (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.errors import ConfigRejected

_TOLD = 4  # nodes named in a message
_UNITS = {"CPU": ("CPU", "CPUs"), "GPU": ("GPU", "GPUs")}

Amounts = Mapping[str, float]  # by Ray's names of resources


@dataclass(frozen=True, slots=True)
class Room:
    """A node: all it has, and what of that nobody has taken."""

    id: str
    address: str
    total: Amounts
    free: Amounts

    @property
    def holds_replicas(self) -> bool:
        """Whether any replica can run there: each takes a CPU. Heads are often given none."""
        return self.total.get("CPU", 0) >= 1


@dataclass(frozen=True, slots=True)
class Need:
    """What one replica takes of a node."""

    amounts: Amounts
    keys: Mapping[str, str] = field(default_factory=dict)  # of the configuration, by resource


def refuse(needs: Iterable[Need], rooms: Sequence[Room], hint: str = "") -> None:
    """ConfigRejected for a replica that no node could take, were it empty, with what is allowed."""
    for need in needs:
        if any(_fits(need.amounts, room.total) for room in rooms):
            continue
        for resource, amount in need.amounts.items():
            largest = max(rooms, key=lambda room: room.total.get(resource, 0))
            most = largest.total.get(resource, 0)
            if most < amount:
                raise ConfigRejected(
                    f"{need.keys[resource]}: a replica asks for {_told(resource, amount)}; no node of this "
                    f"cluster has more than {_told(resource, most)} ({largest.address}){hint}"
                )
        keys = " and ".join(need.keys[resource] for resource in need.amounts)
        raise ConfigRejected(
            f"{keys}: a replica asks for {_all_told(need.amounts)} on one node; no node of this cluster has "
            f"both{hint}"
        )


def waits_for(
    amounts: Amounts,
    rooms: Sequence[Room],
    per_node: int | None = None,
    taken: Mapping[str, int] | None = None,
) -> str:
    """On what a replica waits that no node can take now, in words; "" when one could.

    `per_node` is how many of its deployment a node may have, `taken` how many each has by now, by id.
    """
    full = {room.id for room in rooms if per_node is not None and (taken or {}).get(room.id, 0) >= per_node}
    able = [room for room in rooms if _fits(amounts, room.free)]
    if any(room.id not in full for room in able):
        return ""
    if able:
        return f"another node with {_all_told(amounts)} free: each may have {per_node} of these"
    scarce = {
        resource: amount
        for resource, amount in amounts.items()
        if all(room.free.get(resource, 0) < amount for room in rooms)
    } or amounts
    states = [
        f"{room.address} {', '.join(_state(resource, room) for resource in scarce)}" for room in rooms[:_TOLD]
    ]
    more = f" and {len(rooms) - _TOLD} nodes more" if len(rooms) > _TOLD else ""
    return f"{_all_told(scarce)} on one node; free: {'; '.join(states)}{more}"


def gateways_per_node(gateways: int, capacities: Sequence[int]) -> int | None:
    """How many gateways a node may have at most, so that they spread over those that can take any; each
    capacity is how many a node can take. None: no limit, on one node or where they do not all fit.
    """
    if sum(capacity > 0 for capacity in capacities) < 2:
        return None
    for limit in range(1, gateways):
        if sum(min(limit, capacity) for capacity in capacities) >= gateways:
            return limit
    return None


def _fits(amounts: Amounts, there: Amounts) -> bool:
    return all(there.get(resource, 0) >= amount for resource, amount in amounts.items())


def _all_told(amounts: Amounts) -> str:
    return " and ".join(_told(resource, amount) for resource, amount in amounts.items())


def _told(resource: str, amount: float) -> str:
    one, many = _UNITS.get(resource, (resource, resource))
    return f"{amount:g} {one if amount == 1 else many}"


def _state(resource: str, room: Room) -> str:
    total = room.total.get(resource, 0)
    return f"{room.free.get(resource, 0):g} of {_told(resource, total)}"
