"""The build backend of the package: it builds the programs, puts them and the bundled model into the package, and lets
maturin do the rest.

`RBEE_BUILD_PROFILE=dev` builds without optimization, for work on rbee itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import maturin
from maturin import (  # noqa: F401
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "rbee-py" / "python" / "rbee"
#: The daemon as a program, which `rbee serve` starts.
DAEMON = ROOT / "rbee-py" / "programs" / "queen-rbee"
MODEL = ROOT / "examples" / "models" / "bee-tiny"
MODEL_FILES = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
]
# As maturin sets it, so that the dependencies are built once.
os.environ["PYO3_BUILD_EXTENSION_MODULE"] = "1"
PROFILE = os.environ.get("RBEE_BUILD_PROFILE", "release")
# A source distribution has fewer packages than the lock file, so cargo must be able to remove the others from it.
LOCKED = ["--locked"] if (ROOT / "tests").is_dir() else []


def _built_program() -> Path:
    """Builds the file with all programs, and returns its path."""
    command = ["cargo", "build", *LOCKED, "--profile", PROFILE, "--package", "rbee-py", "--bin", "rbee-programs"]
    command += ["--message-format", "json-render-diagnostics"]
    # Only the last step of a build depends on it.
    command += ["--config", f'profile.{PROFILE}.strip="symbols"']
    print("$", " ".join(command), file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    except FileNotFoundError:
        raise SystemExit("cargo is not installed; rbee is built with Rust 1.95 or newer, see https://rustup.rs") from None
    if done.returncode != 0:
        raise SystemExit(f"the programs of rbee could not be built (cargo exited with {done.returncode})")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "rbee-programs":
            executable = message.get("executable")
            if executable:
                return Path(executable)
    raise SystemExit("cargo has built no rbee-programs")


def _staged() -> None:
    """Puts the programs and the model into the package."""
    program = _built_program()
    programs = PACKAGE / "_bin"
    shutil.rmtree(programs, ignore_errors=True)
    programs.mkdir()
    for file in (program, DAEMON):
        copy = programs / file.name
        shutil.copyfile(file, copy)
        copy.chmod(0o755)
    model = PACKAGE / "_models" / MODEL.name
    shutil.rmtree(model.parent, ignore_errors=True)
    model.mkdir(parents=True)
    for name in MODEL_FILES:
        shutil.copyfile(MODEL / name, model / name)


def _with_profile(config_settings: dict[str, str] | None) -> dict[str, str]:
    settings = dict(config_settings or {})
    settings.setdefault("build-args", " ".join(["--profile", PROFILE, *LOCKED]))
    return settings


def build_wheel(
    wheel_directory: str, config_settings: dict[str, str] | None = None, metadata_directory: str | None = None
) -> str:
    _staged()
    return maturin.build_wheel(wheel_directory, _with_profile(config_settings), metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: dict[str, str] | None = None, metadata_directory: str | None = None
) -> str:
    _staged()
    return maturin.build_editable(wheel_directory, _with_profile(config_settings), metadata_directory)


def build_sdist(sdist_directory: str, config_settings: dict[str, str] | None = None) -> str:
    return maturin.build_sdist(sdist_directory, config_settings)
