"""What `make demo` downloads and how much disk it takes: the same packages, in a new environment.

    python benchmarks/install_size.py --output benchmarks/results/install_size.json

Downloads all packages into a folder, whose files are the download, installs them from there as `make demo` does, runs
the demo on little, so that the bytecode of what it imports is there, and adds up the files of the environment.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ["--constraint", str(ROOT / "constraints.txt")]
LITTLE = ["--seeds", "1", "--labeled", "48", "--epochs", "2"]


def measure(folder: Path) -> dict:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    def run(*command: object) -> None:
        subprocess.run([*map(str, command)], check=True, cwd=folder, env=env, stdout=subprocess.DEVNULL)

    files, venv = folder / "files", folder / "venv"
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    for what in ("torch", f"{ROOT}[demo]"):
        run(python, "-m", "pip", "download", "--quiet", "--dest", files, *CONSTRAINTS, what)
    for own in files.glob("deni-*"):
        own.unlink()  # it is in the checkout
    downloads = {path.name.partition("-")[0]: path.stat().st_size for path in files.iterdir()}
    for what in ("torch", f"--editable={ROOT}[demo]"):
        run(python, "-m", "pip", "install", "--quiet", "--no-compile", "--find-links", files, *CONSTRAINTS, what)
    run(venv / "bin" / "deni", "demo", *LITTLE)
    installed: Counter[str] = Counter()
    for path in venv.rglob("*"):
        if path.is_file() and not path.is_symlink():
            parts = path.relative_to(venv).parts
            installed[parts[3] if parts[0] == "lib" and len(parts) > 4 else "others"] += path.stat().st_blocks * 512
    return {
        "python": sys.version.split()[0],
        "packages": len(downloads),
        "download_bytes": sum(downloads.values()),
        "installed_bytes": sum(installed.values()),
        "largest_downloads": dict(Counter(downloads).most_common(8)),
        "largest_installed": dict(installed.most_common(8)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="demo-size-") as folder:
        result = measure(Path(folder))
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
