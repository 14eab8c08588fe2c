"""The built wheel: it holds all that it needs."""

import os
import shutil
import subprocess
import sys

from conftest import ROOT, need


def test_the_wheel_alone_runs_the_demonstration(tmp_path):
    pip = [sys.executable, "-m", "pip"]
    # A copy, in which no earlier build lies.
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "runs"))
    command = [*pip, "wheel", "-q", "--no-deps", "-w", tmp_path, source]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    need("No matching distribution found for setuptools" not in built.stderr, "needs a package index to build a wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("crattn_stage-*.whl")
    alone = tmp_path / "alone"
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", alone, wheel], check=True)
    assert (alone / "training" / "recipes").is_dir() and not (alone / "tests").exists()
    environment = os.environ | {"PYTHONPATH": str(alone)}
    for arguments in (["demo", tmp_path / "demo"], ["db", "upgrade"], ["models", "verify"]):
        command = [sys.executable, "-m", "crattn_stage.cli", *arguments]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    where = [sys.executable, "-c", "import crattn_stage; print(crattn_stage.__file__)"]
    assert str(alone) in subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    assert (tmp_path / "demo" / "demo.png").exists()
