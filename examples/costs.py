"""Writes into each study of this folder what it costs: `python examples/costs.py`."""

import re
from pathlib import Path

from deni.study.plan import read_study

HERE = Path(__file__).parent


def cost_line(file: Path) -> str:
    planned = read_study(file).jobs
    return f"# Cost: {sum(each.member_steps for each in planned):,} member-steps in {len(planned):,} cells."


def main() -> None:
    for file in sorted(HERE.glob("*.yaml")):
        file.write_text(re.sub(r"^# Cost:.*$", cost_line(file), file.read_text(), count=1, flags=re.M))


if __name__ == "__main__":
    main()
