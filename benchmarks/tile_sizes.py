"""Whether the mask depends on how a scene is cut: a real Sentinel-2 tile with windows of several sizes.

    python benchmarks/tile_sizes.py ../shared/data/safe_s2_l2a_60m/*.SAFE [--tile 256 --tile 512] [--against 1024]

Prints, for every size, the share of the valid pixels that are of the same class as with ``--against``.
"""

from __future__ import annotations

from pathlib import Path

import click

import unclouded
from unclouded.classes import NO_DATA


@click.command()
@click.argument("scene", type=click.Path(exists=True, path_type=Path))
@click.option("--tile", multiple=True, type=int, default=(256, 512), show_default=True)
@click.option("--against", type=int, default=1024, show_default=True)
def main(scene: Path, tile: tuple[int, ...], against: int) -> None:
    """Mask SCENE with windows of every size and compare."""
    whole = unclouded.mask(scene, tile=against).classes.values
    valid = whole != NO_DATA
    click.echo(f"{valid.sum()} valid pixels, {valid.mean():.1%} of the scene")
    for size in tile:
        classes = unclouded.mask(scene, tile=size).classes.values
        click.echo(f"{size} against {against}: {(classes == whole)[valid].mean():.3%} of the same class")


if __name__ == "__main__":
    main()
