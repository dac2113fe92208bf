"""What the commands ask of Prefect's API, and what they may say about it: its address may hold a password."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import httpx
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.settings import PREFECT_API_URL

from prefect_gcp_cloud_run._findings import first_line
from prefect_gcp_cloud_run._mistakes import nearest

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import WorkPool


async def find_work_pool(client: PrefectClient, name: str) -> WorkPool | None:
    """Reads a work pool.

    Args:
        client: Client of the Prefect API.
        name: The pool's name, which can be any text: unlike in a URL, it has no meaning in a filter.

    Returns:
        The work pool, or None if there is none of this name.
    """
    wanted = WorkPoolFilter(name=WorkPoolFilterName(any_=[name]))
    return next(iter(await client.read_work_pools(work_pool_filter=wanted)), None)


async def nearest_work_pool(client: PrefectClient, name: str, kind: str) -> str | None:
    """Finds the work pool of a type that a mistyped name most likely stands for.

    Args:
        client: Client of the Prefect API.
        name: The mistyped name.
        kind: The type of work pool that is wanted.

    Returns:
        The name of the work pool, or None if none is near.
    """
    return nearest(name, [pool.name for pool in await client.read_work_pools() if pool.type == kind])


def shown_address(address: str) -> str | None:
    """An address without its user, password and query.

    Args:
        address: What PREFECT_API_URL says.

    Returns:
        The address, or None if it is not valid: nobody can tell then which part of it is the password.
    """
    try:
        url = urlsplit(address)
        # Reading the port raises an error if it is none. A password that has a slash in it looks like one.
        _ = url.port
    except ValueError:
        return None
    url = url._replace(netloc=url.netloc.rpartition("@")[2])
    if url.scheme not in ("http", "https") or not url.hostname or "@" in urlunsplit(url):
        return None
    return urlunsplit(url._replace(query="", fragment=""))


def api_address() -> str:
    """The address of the Prefect API for a line of text."""
    shown = shown_address(str(PREFECT_API_URL.value()))
    return shown or "PREFECT_API_URL (not shown, since it is not a valid address)"


def words_of(error: Exception) -> str:
    """What may be shown of an error of a request to the Prefect API: its text may repeat any part of the address."""
    address, kind = str(PREFECT_API_URL.value()), type(error).__name__
    if shown_address(address) != address:
        return kind
    text = first_line(error)
    return text if isinstance(error, httpx.HTTPStatusError) or text.startswith(kind) else f"{kind}: {text}"
