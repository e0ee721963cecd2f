"""Web proxies: what is on this machine is never asked through one."""

import ipaddress
import os
import urllib.request
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy", "socks_proxy")


def go_past_proxies(url: str | None) -> None:
    """Make this process, and all that it starts, reach the loopback address directly.

    Parameters
    ----------
    url
        Address of the Prefect server; None for one of our own. If it is on this machine no proxy is left in the
        environment, since a kind that Prefect's client does not know stops it, whomever it asks. For another machine
        the proxies stay.
    """
    if url is None or is_loopback(url):
        for name in [name for name in os.environ if name.lower() in _PROXIES]:
            del os.environ[name]
    known = [part.strip() for part in os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(",")]
    listed = ",".join(dict.fromkeys([*filter(None, known), *LOOPBACK]))
    os.environ.update({"no_proxy": listed, "NO_PROXY": listed})


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine.

    Examples
    --------
    >>> is_loopback("http://127.0.0.2:4200/api"), is_loopback("http://[::1]/"), is_loopback("https://prefect.lab.org")
    (True, True, False)
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def opener_for(url: str) -> urllib.request.OpenerDirector:
    """What opens an address: without any proxy if it is on this machine."""
    without = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    return urllib.request.build_opener(*without)
