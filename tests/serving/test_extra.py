import pytest

from deni.errors import InputError
from deni.serving import extra


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    extra.check_extra()
    monkeypatch.setattr(extra, "PACKAGES", ("fastapi", "no_such_package"))
    with pytest.raises(InputError, match=r'needs the package no_such_package: pip install "deni\[serve\]"'):
        extra.check_extra()
