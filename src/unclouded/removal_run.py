"""One removal that is decided upon: what it is made of, and how its rows become files and an item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from .infer.remove import RestoredStrip
from .infer.remove_plan import RemovalPlan

if TYPE_CHECKING:
    import pystac

PRODUCTS = ("restored", "restored_provenance", "restored_uncertainty")
NO_ERROR = 65535
"""Stored value of pixels without uncertainty."""


def removal_paths(folder: Path, scene_id: str, *, quicklook: bool = False) -> dict[str, Path]:
    """Files that removal makes of a scene, with or without a picture; the item, which says that all is done, is last.

    >>> [path.name for path in removal_paths(Path("out"), "scene").values()][-1]
    'scene_restored.json'
    """
    out = {product: Path(folder) / f"{scene_id}_{product}.tif" for product in PRODUCTS}
    if quicklook:
        out["quicklook"] = Path(folder) / f"{scene_id}_restored_quicklook.png"
    return {**out, "item": Path(folder) / f"{scene_id}_restored.json"}


@dataclass(frozen=True)
class Stored:
    """Rows as they are written: counts, codes, and uncertainty in ten-thousandths."""

    first: int
    image: NDArray[Any]
    provenance: NDArray[np.uint8]
    error: NDArray[np.uint16]

    @classmethod
    def of(cls, strip: RestoredStrip, plan: RemovalPlan) -> Self:
        """Rows as the plan's files hold them."""
        from .write.stac_removal import ERROR_SCALE

        units = np.clip(np.rint(np.nan_to_num(strip.error) / ERROR_SCALE), 0, NO_ERROR - 1)
        error = np.where(np.isnan(strip.error), NO_ERROR, units).astype(np.uint16)
        return cls(strip.first, plan.encoding.cast(strip.stored), strip.provenance, error)


@dataclass(frozen=True)
class Run:
    """What decides the result: plan, weights, masks."""

    plan: RemovalPlan
    model_sha256: str | None
    card_path: Path | None
    mask_source: Mapping[str, Any]
    fingerprint: str
    notes: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Findings of the reader, then of masks and plan."""
        return tuple(dict.fromkeys((*self.plan.scene.warnings, *self.notes)))

    def item(self, outputs: Mapping[str, Path], counts: Mapping[int, int], notes: Sequence[str] = ()) -> pystac.Item:
        """The STAC item that describes the result."""
        from .write.stac_removal import make_removal_item

        return make_removal_item(
            self.plan,
            outputs=outputs,
            counts=counts,
            model_sha256=self.model_sha256,
            card_path=self.card_path,
            mask_source=self.mask_source,
            warnings=[*self.warnings, *notes],
            fingerprint=self.fingerprint,
        )

    def write(self, folder: Path, strips: Iterable[Stored]) -> tuple[dict[str, Path], dict[int, int], Any]:
        """Write all files of the result, the item last."""
        from . import __version__
        from .write.layers import Layer, LayerWriter
        from .write.stac import write_item
        from .write.stac_removal import COLOURS, ERROR_SCALE, PROVENANCE

        plan, encoding = self.plan, self.plan.encoding
        model = "none" if plan.card is None else f"{plan.card.name} {plan.card.version}"
        tags = {
            "SENSOR": plan.scene.sensor, "LEVEL": plan.scene.level, "MODEL": model,
            "SOFTWARE": f"unclouded {__version__}",
        }  # fmt: skip
        if plan.scene.datetime:
            tags["DATETIME"] = plan.scene.datetime
        layers = {
            "restored": Layer(encoding.dtype.name, plan.names, encoding.nodata, encoding.scale, encoding.offset),
            "restored_provenance": Layer(
                "uint8",
                ("provenance",),
                255,
                codes={code: (name, COLOURS[code]) for code, (name, _) in PROVENANCE.items()},
                overview="MODE",
            ),
            "restored_uncertainty": Layer("uint16", ("expected absolute error",), NO_ERROR, (ERROR_SCALE,), (0.0,)),
        }
        counts = dict.fromkeys(PROVENANCE, 0)
        with LayerWriter(folder, plan.scene.id, plan.grid, layers, tags) as writer:
            for strip in strips:
                writer.write_rows(
                    strip.first,
                    {
                        "restored": strip.image,
                        "restored_provenance": strip.provenance[np.newaxis],
                        "restored_uncertainty": strip.error[np.newaxis],
                    },
                )
                found = np.bincount(strip.provenance.ravel(), minlength=256)
                for code in counts:
                    counts[code] += int(found[code])
            outputs = dict(writer.finish(stale=("_restored.json", "_restored_quicklook.png")))
        if plan.options.quicklook:
            from .write.quicklook_removal import write_removal_quicklook

            picture = removal_paths(folder, plan.scene.id, quicklook=True)["quicklook"]
            outputs["quicklook"] = write_removal_quicklook(plan, outputs, picture, counts)
        item = self.item(outputs, counts, losses(plan, counts))
        outputs["item"] = write_item(item, removal_paths(folder, plan.scene.id)["item"])
        return outputs, counts, item


def losses(plan: RemovalPlan, counts: Mapping[int, int]) -> list[str]:
    """What could not be filled, for people."""
    if plan.card is not None or not counts.get(255):
        return []
    return [
        "Without a removal model, pixels that no other date shows clear have no data: pass more dates, or --model."
    ]
