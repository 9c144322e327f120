"""One virtual environment a peer, below `.venvs/`: `python -m benchmarks.peers.environments [peer ...]`.

Peers that are content with the torch, torchvision and timm of the environment that runs this see them by a path file,
as `--system-site-packages` would show them, which saves 5 GB each; whatever else they ask for goes into their own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / ".venvs"
_INSTALLED = "installed.txt"


@dataclass(frozen=True)
class Environment:
    """What a peer installs from the package index."""

    requirements: tuple[str, ...]
    shares_torch: bool = True


ENVIRONMENTS = {
    "plain": Environment(("optuna", "mlflow", "timm", "torch", "torchvision", "scikit-learn", "pandas", "safetensors")),
    "ray": Environment(("ray[tune]==2.60.0", "optuna", "timm", "torch", "torchvision", "scikit-learn", "safetensors")),
    # It refuses torch 2.14. Three signs of equality: a build of 2.13.0 with a local version would win over the one
    # that torchvision 0.28 was built for, and the two do not load together.
    "autogluon": Environment(("autogluon.multimodal==1.6.3", "torch===2.13.0", "safetensors"), shares_torch=False),
    "ludwig": Environment(("ludwig==0.11.0", "timm", "safetensors")),
}


def python_of(peer: str) -> Path | None:
    """Return the interpreter of a peer's environment, or None where there is none."""
    python = FOLDER / peer / "bin" / "python"
    return python if (FOLDER / peer / _INSTALLED).is_file() else None


def make(peer: str) -> bool:
    """Make a peer's environment unless it is there; what cannot be installed leaves nothing behind but a word."""
    if python_of(peer) is not None:
        return True
    environment, folder = ENVIRONMENTS[peer], FOLDER / peer
    venv.create(folder, clear=True, with_pip=True)
    if environment.shares_torch:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        (folder / "lib" / version / "site-packages" / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    done = subprocess.run([*pip, *environment.requirements], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(folder)
        print(f"{peer}: cannot be installed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return False
    versions = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    (folder / _INSTALLED).write_text(versions)
    return True


def main() -> None:
    """Make the environments of the peers that are named, or of all."""
    for peer in sys.argv[1:] or ENVIRONMENTS:
        print(f"{peer}: {'ready' if make(peer) else 'left out'}")


if __name__ == "__main__":
    main()
