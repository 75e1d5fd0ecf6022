"""Runs the dashboard's pages without a browser and returns the elements that they show."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from streamlit.testing.v1 import AppTest

from local_aws_support import REPOSITORY


@dataclass
class Page:
    """A page as it is shown."""

    app: AppTest

    def set(self, kind: str, key: str, value: Any) -> Page:
        """Give the widget with the key another value and run the page again."""
        getattr(self.app, kind)(key=key).set_value(value)
        self.app.run()
        assert not self.app.exception
        return self

    @property
    def metrics(self) -> dict[str, str]:
        return {metric.label: metric.value for metric in self.app.metric}

    @property
    def deltas(self) -> dict[str, str]:
        return {metric.label: metric.delta for metric in self.app.metric}

    @property
    def sentences(self) -> list[str]:
        """The texts of the page's colored boxes."""
        boxes = (self.app.info, self.app.warning, self.app.error)
        return [box.value for kind in boxes for box in kind]

    def charts(self) -> dict[str, pd.DataFrame]:
        """The data that each chart draws, by the chart's title."""
        charts = {}
        for element in _elements(self.app.main):
            if element.type == "vega_lite_chart":
                (dataset,) = element.proto.datasets
                with pa.ipc.open_stream(io.BytesIO(dataset.data.data)) as reader:
                    charts[_title(element.proto.spec)] = reader.read_all().to_pandas()
        return charts

    @property
    def commands(self) -> list[str]:
        """The commands that the page shows for copying."""
        return [block.value for block in self.app.code]

    @property
    def text(self) -> str:
        """The page's text outside of boxes, tables and charts."""
        return "\n".join(part.value for part in [*self.app.caption, *self.app.markdown])

    def chart_specs(self) -> list[str]:
        """The charts as Vega-Lite."""
        return [e.proto.spec for e in _elements(self.app.main) if e.type == "vega_lite_chart"]

    def frame(self, position: int = 0) -> pd.DataFrame:
        """A table of the page."""
        frame: pd.DataFrame = self.app.dataframe[position].value
        return frame


def open_page(name: str = "day", **query: str) -> Page:
    """Run the page for the first time; `query` is the query of its address."""
    app = AppTest.from_file(str(REPOSITORY / "dashboard" / "app.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    if name != "day":
        # The app can switch pages only after its first page has run.
        app.run()
        app.switch_page(f"views/{name}.py")
    app.run()
    assert not app.exception
    return Page(app)


def _elements(block: Any) -> Iterator[Any]:
    for child in block.children.values():
        if hasattr(child, "children"):
            yield from _elements(child)
        else:
            yield child


def _title(spec: str) -> str:
    parsed = json.loads(spec)
    title = parsed.get("title") or parsed["layer"][0]["title"]
    return str(title["text"] if isinstance(title, dict) else title)
