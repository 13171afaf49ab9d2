"""The picture of a curve: what it shows is what it was given."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from twinweave.report.curve import curves_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_lines_points_and_names_are_those_given() -> None:
    lines = {"parity <&>": [0.2, 0.1, 0.0], "loss": [0.0, 0.01, 0.02]}
    root = ElementTree.fromstring(curves_svg("a < b", "strength", [0, 0.5, 1], lines))
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert {"a < b", "strength", "parity <&>", "loss", "0.5"} <= set(texts)
    paths = [
        [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    assert len(paths) == 2
    (parity, loss), left = paths, 56.0
    assert parity[0][0] == left
    assert parity[1][0] - left == pytest.approx((parity[2][0] - left) / 2, abs=0.1)
    assert parity[0][1] < parity[1][1] < parity[2][1]  # SVG counts downwards
    assert parity[2][1] == loss[0][1]  # both zero
    bottom = parity[2][1]
    assert bottom - loss[2][1] == pytest.approx((bottom - parity[0][1]) / 10, abs=0.1)


def test_less_than_nothing_and_nothing_at_all_are_drawn_inside() -> None:
    for values in ([-0.01, 0.02], [0.0, 0.0]):
        root = ElementTree.fromstring(curves_svg("t", "x", [0, 1], {"loss": values}))
        (line,) = root.iter(f"{SVG}polyline")
        ys = [float(p.split(",")[1]) for p in line.attrib["points"].split()]
        assert all(0 < y < 340 for y in ys)
