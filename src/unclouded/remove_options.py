"""Settings of one removal run, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from .classes import CLASSES
from .errors import InputError

NONE = "none"
"""Name in place of a model: nothing is rebuilt, other dates alone fill the gaps."""

_REBUILT = tuple(one.name for one in CLASSES[1:])


@dataclass(frozen=True)
class RemoveOptions:
    """Settings of :func:`unclouded.remove`.

    Attributes:
        model: name of a removal model, or its folder or file; ``none`` for no network.
        mask_model: model that finds the clouds where no mask is given.
        rebuild: classes of the mask that are rebuilt.
        dilation: pixels by which they are widened, for edges of clouds are thin, and masks err there.
        feather: pixels over which what was rebuilt fades into what was observed, outside of the widened mask.
        tile, halo: as in :class:`unclouded.Options`; windows in which nothing has to be rebuilt are not computed.
        threads: CPU threads of the networks; 0 means all cores.
        quicklook: also write a PNG picture: before, after, and where each pixel comes from.
        overwrite: replace existing output.
        resume: keep existing, complete output of the same inputs, model and options.

    Raises:
        InputError: a value is out of range.

    >>> RemoveOptions(rebuild=("thick-cloud",)).codes
    (1,)
    """

    model: str = "removal"
    mask_model: str = "default"
    rebuild: tuple[str, ...] = _REBUILT
    dilation: int = 3
    feather: int = 4
    tile: int = 640
    halo: int = 96
    threads: int = 0
    quicklook: bool = False
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rebuild", tuple(self.rebuild))
        unknown = [name for name in self.rebuild if name not in _REBUILT]
        if unknown or not self.rebuild:
            raise InputError(
                f"The classes to rebuild are {', '.join(self.rebuild) or 'none'}.",
                expected=f"One or more of {', '.join(_REBUILT)}.",
                remedy="Pass --rebuild thick-cloud, once for each class, or leave it out for all.",
            )
        for name, value, most in (("dilation", self.dilation, 100), ("feather", self.feather, 100)):
            if not 0 <= value <= most:
                raise InputError(
                    f"The {name} is {value} pixels.",
                    expected=f"It lies between 0 and {most}.",
                    remedy=f"Pass --{name} 3 or another number of pixels.",
                )
        if self.tile < 64 or self.tile % 32 or self.halo < 0 or self.halo % 32 or self.tile - 2 * self.halo < 32:
            raise InputError(
                f"Tiles of {self.tile} pixels with a halo of {self.halo} were asked for.",
                expected="Both are multiples of 32, and the halo leaves 32 pixels or more of the tile.",
                remedy="Pass for example --tile 640 --halo 96.",
            )
        if self.threads < 0:
            raise InputError(
                f"The number of threads is {self.threads}.",
                expected="It has to be 0 (all cores) or a positive number.",
                remedy="Leave --threads out to use all cores.",
            )
        if self.overwrite and self.resume:
            raise InputError(
                "Both overwrite and resume were asked for.",
                expected="One replaces existing output, the other keeps it.",
                remedy="Pass only one of --overwrite and --resume.",
            )

    @property
    def codes(self) -> tuple[int, ...]:
        """Codes of the classes that are rebuilt."""
        return tuple(one.value for one in CLASSES if one.name in self.rebuild)

    def but(self, **changes: Any) -> Self:
        """A copy with some settings changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """All settings by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
