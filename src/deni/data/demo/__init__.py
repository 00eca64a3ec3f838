"""A small packaged dataset: messages to the support desk of a fictional shop, six classes."""

from importlib.resources import files
from pathlib import Path


def demo_files() -> tuple[Path, Path]:
    """Find the demo's CSV files, columns text and label: 648 texts to train on and 430 to test on.

    >>> [file.name for file in demo_files()]
    ['support_train.csv', 'support_test.csv']
    """
    folder = Path(str(files(__name__)))
    return folder / "support_train.csv", folder / "support_test.csv"
