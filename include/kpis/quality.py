"""Quality over time: the figures of successive runs, each beside what the runs before it lead to expect.

It reads nothing but run reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from helpers.contract.figures import FAR_OFF, FIGURES, Figure
from helpers.contract.records import ALL_LEFT, COMPLETE
from helpers.contract.wording import byte_size
from include.kpis.reports import RunReport

# A run is compared with up to this many complete runs before it, if there are enough of them.
RUNS_COMPARED = 28
_RUNS_NEEDED = 5
# This many standard deviations from the median are usual, where that is more than `FAR_OFF` allows.
_DEVIATIONS = 3
# A normal distribution's standard deviation is this many times its median absolute deviation.
_SCALE = 1.4826
LOW, HIGH, USUAL, UNKNOWN = "low", "high", "as expected", "too few runs before"


class Range(NamedTuple):
    """The numbers from `low` to `high` are expected."""

    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A figure of a run.

    Attributes:
        value: None if its report lacks the figure, as older reports do.
        expected: None if too few runs before have the figure.
    """

    report: RunReport
    figure: Figure
    value: float | None
    expected: Range | None

    @property
    def verdict(self) -> str:
        """`LOW` or `HIGH` for an outlier, otherwise `USUAL`, or `UNKNOWN` if nothing is expected."""
        if self.value is None or self.expected is None:
            return UNKNOWN
        if self.value > self.expected.high:
            return HIGH
        return LOW if self.value < self.expected.low and self.figure.low_is_unusual else USUAL

    @property
    def is_outlier(self) -> bool:
        """Whether the value is outside of the expected range, on a side that matters."""
        return self.verdict in (LOW, HIGH)


def expected_range(earlier: Sequence[float], figure: Figure) -> Range | None:
    """Return the range that these values of earlier runs lead to expect; None if they are too few.

    It reaches from half the median to twice the median, as for a day's listens in `helpers.run.checks`.
    Values that vary more widen it to three standard deviations, which are estimated so that single outliers
    do not matter.
    """
    if len(earlier) < _RUNS_NEEDED:
        return None
    middle = median(earlier)
    spread = _DEVIATIONS * _SCALE * median(abs(value - middle) for value in earlier)
    low = max(0.0, min(middle / FAR_OFF, middle - spread)) if figure.low_is_unusual else 0.0
    return Range(low, max(middle * FAR_OFF, middle + spread))


def compared(reports: Iterable[RunReport]) -> list[RunReport]:
    """Return the reports of runs that took new files, oldest first."""
    taken = [report for report in reports if not report.reprocessed and report.status != ALL_LEFT]
    return sorted(taken, key=lambda report: report.frozen_at)


def points_by_figure(reports: Sequence[RunReport]) -> Mapping[str, list[Point]]:
    """Return each figure's points, one for each of these reports, by the figure's name.

    A figure that none of the reports has is left out.

    Args:
        reports: as `compared` returns them.
    """
    points: dict[str, list[Point]] = {}
    for figure in FIGURES:
        usual: list[float] = []
        of_figure = []
        for report in reports:
            value = report.figures[figure.name]
            of_figure.append(Point(report, figure, value, expected_range(usual[-RUNS_COMPARED:], figure)))
            if value is not None and report.status == COMPLETE:
                usual.append(value)
        if any(point.value is not None for point in of_figure):
            points[figure.name] = of_figure
    return points


def worded(figure: Figure, value: float) -> str:
    """Return the value as people write it; the figure's label has the unit."""
    if figure.unit == "bytes":
        return byte_size(int(value))
    if figure.unit == "share":
        return f"{value:.1%}"
    if figure.unit == "US dollars":
        return f"{value:,.3f}"
    return f"{value:,.0f}" if figure.unit == "count" or abs(value) >= 100 else f"{value:,.1f}"


def outlier_in_words(point: Point) -> str:
    """Return an outlier in words, such as `Rows 3,000: low, expected 15,000 to 60,000`."""
    assert point.value is not None
    assert point.expected is not None
    return (
        f"{point.figure.label} {worded(point.figure, point.value)}: {point.verdict}, expected "
        f"{range_in_words(point)}"
    )


def range_in_words(point: Point) -> str:
    """Return the expected range in words; a figure whose low numbers are fine has only an upper limit."""
    if point.expected is None:
        return UNKNOWN
    low, high = (worded(point.figure, value) for value in point.expected)
    return f"{low} to {high}" if point.figure.low_is_unusual else f"up to {high}"
