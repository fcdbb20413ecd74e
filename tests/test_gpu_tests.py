"""The tests of a device, as a machine with one finds them: with few packages, and in several processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent
# All but torch, triton, pytest, pytest-benchmark, numpy, pandas, scipy, hypothesis and what those need.
MISSING = (
    *("altair", "axe_playwright_python", "boto3", "duckdb", "flask", "fsspec", "jinja2", "joblib", "moto", "PIL"),
    *("playwright", "pyarrow", "ruptures", "sklearn", "tabulate", "tqdm", "vl_convert"),
)
WITHOUT = """
    import sys

    class Without:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, *given):
            return None if name.partition(".")[0] in {missing} else self.finder.find_spec(name, *given)

        def __getattr__(self, name):
            return getattr(self.finder, name)

    sys.meta_path[:] = map(Without, sys.meta_path)
    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
"""


def collected(*arguments, missing=()):
    """Collect in a process that lacks packages; `torch` itself uses some of them where they are there."""
    code = textwrap.dedent(WITHOUT).format(missing=repr(set(missing)))
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    given = [*arguments, "--collect-only", "-q", "-p", "no:cacheprovider", "-c", str(TESTS.parent / "pyproject.toml")]
    run = subprocess.run(
        [sys.executable, "-c", code, *given], check=False, capture_output=True, text=True, env=environment
    )
    return run.returncode, run.stdout + run.stderr


def test_every_test_of_a_device_is_collected_with_few_packages():
    _, everything = collected(str(TESTS), "-m", "gpu")
    status, few = collected(str(TESTS), "-m", "gpu", missing=MISSING)
    assert status == pytest.ExitCode.OK, few
    names = {line for line in everything.splitlines() if "::" in line}
    assert names
    assert {line for line in few.splitlines() if "::" in line} == names


def test_a_missing_package_skips_its_module_but_fails_in_ci(pytester, monkeypatch):
    pytester.makepyfile(needs=(TESTS / "needs.py").read_text(encoding="utf-8"))
    pytester.makepyfile(test_some="from needs import needs\nneeds('no_such_package')\ndef test_one(): pass")
    monkeypatch.delenv("CI", raising=False)
    pytester.runpytest().assert_outcomes(skipped=1)
    monkeypatch.setenv("CI", "true")
    pytester.runpytest().assert_outcomes(errors=1)


def test_on_a_device_products_are_exact_and_inductor_s_advice_is_no_error(pytester, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    pytester.makeconftest((TESTS / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        """
        import warnings
        import pytest, torch

        def advise():
            warnings.warn("TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled.")

        @pytest.mark.gpu
        def test_on_a_device():
            advise()
            assert not torch.backends.cudnn.allow_tf32

        def test_elsewhere():
            assert torch.backends.cudnn.allow_tf32
            with pytest.raises(UserWarning):
                advise()
        """
    )
    pytester.runpytest("-W", "error", "-o", "markers=gpu").assert_outcomes(passed=2)
