"""Fuzz the metadata readers: ``python -m tests.fuzz --seconds 600``. Coverage-guided where atheris is installed.

Inputs that break the promise of :mod:`tests.fuzz.targets` are written to a folder; small ones belong into ``cases``,
where the tests run them for ever.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
REAL = HERE.parents[2] / "shared" / "data"
PLACES = {
    "safe-l1c": "**/MTD_MSIL1C.xml", "safe-l2a": "**/MTD_MSIL2A.xml", "safe-tile": "**/MTD_TL.xml",
    "mtl-txt": "**/*_MTL.txt", "mtl-xml": "**/*_MTL.xml", "mtl-json": "**/*_MTL.json", "stac": "stac/**/S*A_*.json",
    "espa": "landsat/mtl_old/L*T*.xml", "planet": "**/*_metadata.xml", "card": "none",
}  # fmt: skip
"""Where real files of a kind lie; without the folder the targets' own files are the only seeds."""

LARGEST_SEED = 60_000


def main() -> int:
    """Run every target for its share of the time; 1 if any input broke the promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="time for all targets together")
    parser.add_argument("--targets", nargs="*", default=[], help="names; none means all")
    parser.add_argument("--seed", type=int, default=0, help="state of chance to begin with")
    parser.add_argument("--plain", action="store_true", help="do without atheris even if it is installed")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder for inputs that break")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    words = parser.parse_args()
    words.findings.mkdir(parents=True, exist_ok=True)
    guided = not words.plain and importlib.util.find_spec("atheris") is not None
    if words.one:
        (run_guided if guided else run_plain)(words.one, words.seconds, words.seed, words.findings)
        return 0
    from .targets import make_targets

    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in make_targets(Path(folder)) if name in words.targets or not words.targets]
    total: Counter[str] = Counter()
    for name in names:
        share = words.seconds / len(names)
        command = [sys.executable, "-m", __package__, "--one", name, "--seconds", str(share), "--seed", str(words.seed)]
        command += ["--findings", str(words.findings)] + ["--plain"] * words.plain
        before = set(words.findings.iterdir())
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        told = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not told:
            sys.stderr.write(done.stderr[-3000:])
            raise SystemExit(f"the fuzzer of {name} ended with {done.returncode}")
        record = json.loads(told[-1])
        found = sorted(path.name for path in set(words.findings.iterdir()) - before if path.suffix != ".txt")
        total["executions"] += record["executions"]
        total["findings"] += len(found)
        sys.stdout.write(json.dumps({"target": name, **record, "findings": found}) + "\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps({"guided": guided, **total}) + "\n")
    return 1 if total["findings"] else 0


class Tally:
    """Counts what inputs end in, and keeps one input of each way to break the promise."""

    def __init__(self, target: str, findings: Path) -> None:
        from .targets import Broken, make_targets

        self._broken = Broken
        self._folder = tempfile.TemporaryDirectory()
        self.target = make_targets(Path(self._folder.name))[target]
        self.findings = findings
        self.executions = 0
        self.outcomes: Counter[str] = Counter()
        self._known: set[str] = set()

    def run(self, data: bytes) -> str:
        """What comes of an input."""
        self.executions += 1
        try:
            said = self.target(data)
        except self._broken as err:
            cause = err.__cause__
            frame = cause.__traceback__ if cause else None
            while frame is not None and frame.tb_next is not None:
                frame = frame.tb_next
            place = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else ""
            key = f"{type(cause).__name__ if cause else str(err)[:25]} {place}"
            if key not in self._known:
                self._known.add(key)
                stem = f"{self.target.name}-{hashlib.sha256(data).hexdigest()[:8]}"
                (self.findings / stem).write_bytes(data)
                (self.findings / f"{stem}.txt").write_text(f"{key}\n{str(err)!a}\n")
            said = "broken: " + key
        self.outcomes[said.partition(":")[0]] += 1
        return said

    def report(self, seconds: float) -> None:
        """One line of JSON."""
        record = {"executions": self.executions, "seconds": round(seconds, 1), "outcomes": dict(self.outcomes)}
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()
        self._folder.cleanup()

    def seeds(self) -> list[bytes]:
        """The target's own file, the cases found before, and real files of its kind."""
        name = self.target.name
        real = sorted(REAL.glob(next(place for start, place in PLACES.items() if name.startswith(start))))
        files = [*sorted((HERE / "cases" / name).glob("*")), *real]
        contents = {file.read_bytes() for file in files if file.is_file() and file.stat().st_size <= LARGEST_SEED}
        return [self.target.own, *sorted(contents)[:40]]


def run_plain(name: str, seconds: float, seed: int, findings: Path) -> None:
    """Mutations by chance; an input with a new kind of end joins the seeds."""
    from .mutate import mutate

    rng = random.Random(seed)
    tally = Tally(name, findings)
    pool, ends = tally.seeds(), {""}
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        data = mutate(rng.choice(pool), rng)
        said = tally.run(data)
        if said not in ends and len(data) <= LARGEST_SEED:
            ends.add(said)
            pool.append(data)
    tally.report(time.monotonic() - begin)


def run_guided(name: str, seconds: float, seed: int, findings: Path) -> None:
    """The same mutations and atheris' own, led by the coverage of the package."""
    import atheris

    with atheris.instrument_imports(include=["unclouded"], enable_loader_override=False):
        import unclouded.readers
        import unclouded.readers.landsat
        import unclouded.readers.safe
        import unclouded.readers.stac  # noqa: F401
    from .mutate import mutate

    tally = Tally(name, findings)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(tally.seeds()):
            (Path(corpus) / str(number)).write_bytes(content)

        def change(data: bytes, most: int, state: int) -> bytes:
            rng = random.Random(state)
            return mutate(data, rng, most) if rng.random() < 0.7 else atheris.Mutate(data, most)

        def test(data: bytes) -> None:
            if time.monotonic() - begin < seconds:
                tally.run(data)
                return
            tally.report(time.monotonic() - begin)
            sys.stdout.flush()
            os._exit(0)  # libFuzzer would report a crash

        flags = [f"-seed={seed + 1}", "-max_len=100000", "-rss_limit_mb=0", "-timeout=60", "-verbosity=0"]
        atheris.Setup([sys.argv[0], corpus, *flags], test, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
