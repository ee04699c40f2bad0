# SPDX-License-Identifier: Apache-2.0
"""Round a judge's numbers to its resolution and map them to the reward scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from autoj_reward.errors import ConfigError

Scale = Literal["raw", "unit", "centred"]
"""raw: the judge's rating, or the win probability. unit: in [0, 1]. centred: in [-1, 1], 0 in the middle."""

_DECIMALS = 12
"""Digits kept after rounding, so that 0.1 * 3 equals 0.3."""


def check_scale(value: str) -> Scale:
    """Return the value if it is a scale's name.

    Raises:
        ConfigError: It is not.
    """
    if value not in get_args(Scale):
        raise ConfigError(f"scale = {value!r} must be one of {', '.join(get_args(Scale))}")
    return cast(Scale, value)


@dataclass(frozen=True, slots=True)
class RewardScale:
    """Maps a judge's raw values to rewards.

    Attributes:
        low: Lowest raw value: the judge's lowest rating, or 0 for win probabilities.
        high: Highest raw value.
        scale: raw, unit or centred.
        resolution: Step to which raw values are rounded, in raw units; 0 leaves them as they are.
    """

    low: float
    high: float
    scale: Scale = "centred"
    resolution: float = 0.0

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if not 0.0 <= self.resolution < (self.high - self.low):
            raise ConfigError(
                f"resolution = {self.resolution:g} is not in [0, {self.high - self.low:g}), the judge's range"
            )

    def rounded(self, raw: float) -> float:
        """A raw value rounded to a multiple of the resolution from the middle of the range.

        From the middle, so that swapping two completions (p to 1 - p) swaps their rewards exactly.
        """
        if not math.isfinite(raw):
            raise ValueError(f"a judge's raw value must be finite, is {raw}")
        if self.resolution == 0.0:
            return raw
        steps = (raw - self._middle) / self.resolution
        whole = math.copysign(math.floor(abs(steps) + 0.5), steps)
        value = round(self._middle + whole * self.resolution, _DECIMALS)
        return min(max(value, self.low), self.high)

    def reward(self, raw: float) -> float:
        """The reward of a raw value: rounded, then scaled.

        With raw r in [low, high]: unit is (r - low) / (high - low), centred is 2 unit - 1.
        """
        value = self.rounded(raw)
        if self.scale == "raw":
            return value
        if self.scale == "unit":
            return round((value - self.low) / (self.high - self.low), _DECIMALS)
        return round((value - self._middle) / ((self.high - self.low) / 2.0), _DECIMALS)

    @property
    def middle(self) -> float:
        """The reward in the middle of the scale."""
        return self.reward(self._middle)

    @property
    def step(self) -> float:
        """The resolution in units of the reward, above 0; without one, a ten-thousandth of the range."""
        span = self.high - self.low
        raw = self.resolution or span / 10_000.0
        return raw / {"raw": 1.0, "unit": span, "centred": span / 2.0}[self.scale]

    @property
    def _middle(self) -> float:
        return (self.low + self.high) / 2.0
