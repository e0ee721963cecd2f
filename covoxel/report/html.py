"""One self-contained HTML page from a Report."""

from covoxel.report.model import Report


def render(report: Report, *, figure_budget_bytes: int = 28_000_000) -> str:
    """HTML of `report`, with nothing outside it: figures are data URIs, there is no script and no network.

    Parameters
    ----------
    report
        What to show.
    figure_budget_bytes
        Figures are embedded, worst cases first, until their encoded size reaches this; the page says what it left out.
    """
    raise NotImplementedError
