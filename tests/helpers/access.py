"""What axe finds on a page that keeps people from reading it."""

from typing import Any


def serious(page: Any) -> list[str]:
    """Each serious or critical violation: what it is, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:150]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
