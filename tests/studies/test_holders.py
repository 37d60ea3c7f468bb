"""Tables of holders: types counted, and every malformed line told by its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mechopt as mo
from mechopt.studies.holders import read_holders


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "holders.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_types_are_counted(tmp_path: Path) -> None:
    path = table(tmp_path, "name,privacy_level\na,0.2\nb,0.1\nc,0.2\nd,0.4\n")
    holders = read_holders(path)
    assert holders.types.tolist() == [0.1, 0.2, 0.4]
    assert holders.probs.tolist() == [0.25, 0.5, 0.25]
    assert holders.n_holders == 4


def test_weights_and_other_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "eps , records\n0.2,3\n0.1,1\n0.2,4\n")
    holders = read_holders(str(path), column="eps", weight="records")
    assert holders.types.tolist() == [0.1, 0.2]
    np.testing.assert_allclose(holders.probs, [1 / 8, 7 / 8])
    assert holders.n_holders == 3


@pytest.mark.parametrize(
    "text",
    [
        "﻿privacy_level\n0.1\n0.3\n",
        "privacy_level\r\n0.1\r\n0.3\r\n",
        'privacy_level\n"0.1"\n 3e-1 \n',
        "privacy_level\n0.1\n\n0.3",
    ],
    ids=["byte order mark", "carriage returns", "quoted and padded", "blank line"],
)
def test_dialects(tmp_path: Path, text: str) -> None:
    assert read_holders(table(tmp_path, text)).types.tolist() == [0.1, 0.3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no column 'privacy_level'; it has none"),
        ("eps\n0.1\n", "has no column 'privacy_level'; it has eps"),
        ("privacy_level\n", "a header and no holders"),
        ("privacy_level,privacy_level\n0.1,0.2\n", "the column 'privacy_level' more than once"),
        ("privacy_level\n0.1\nhigh\n", r"line 3, column 'privacy_level': 'high' is not a number"),
        ("privacy_level,n\n0.1,1\n,2\n", r"line 3, column 'privacy_level': 'empty' is not a number"),
        ("privacy_level\n0.1\n0\n", r"line 3, column 'privacy_level': 0 must be finite and > 0"),
        ("privacy_level\n-0.1\n", r"line 2, .*-0.1 must be finite and > 0"),
        ("privacy_level\nnan\n", r"line 2, .*nan must be finite"),
        ("privacy_level\ninf\n", r"line 2, .*inf must be finite"),
        ("privacy_level\n0,1\n", r"line 2: expected 1 fields"),
        ("privacy_level,n\n0.1,1\n0.2\n", r"line 3: expected 2 fields"),
        ("privacy_level,n\n0.1,1,5\n", r"line 2: expected 2 fields"),
        ("privacy_level\n0.1;0.2\n", r"line 2, .*'0.1;0.2' is not a number"),
        ('privacy_level\n0.1\n"0.2\n', r"line \d+: unexpected end of data"),
        ('privacy_level\n"0.1"x\n', r"line 2: "),
        ('note,privacy_level\n"two\nlines",0.1\nx,bad\n', r"line 4, .*'bad' is not a number"),
        (b"privacy_level\n0.1\n\xff\xfe\n", "not UTF-8"),
        ("privacy_level\n__import__('os').system('touch pwned')\n", "is not a number"),
    ],
)
def test_malformed_tables(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(mo.InvalidInput, match=words) as caught:
        read_holders(path)
    assert "holders.csv" in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["holders.csv"]


def test_malformed_weights(tmp_path: Path) -> None:
    path = table(tmp_path, "privacy_level,n\n0.1,1\n0.2,0\n")
    with pytest.raises(mo.InvalidInput, match="line 3, column 'n': 0 must be finite and > 0"):
        read_holders(path, weight="n")
    with pytest.raises(mo.InvalidInput, match="has no column 'mass'; it has privacy_level, n"):
        read_holders(path, weight="mass")


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(mo.InvalidInput, match="no file of holders at"):
            read_holders(path)


def test_groups_keep_everyone_willing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    levels = np.sort(rng.uniform(0.01, 0.3, 101))
    path = table(tmp_path, "privacy_level\n" + "\n".join(map(repr, levels.tolist())))
    for n_types in (1, 2, 7, 100, 101, 500):
        holders = read_holders(path, n_types=n_types)
        assert holders.types.size == min(n_types, 101)
        assert holders.types[-1] == levels[-1]  # the highest level of the last group is the highest of all
        assert holders.probs.sum() == pytest.approx(1, abs=1e-14)
        assert np.all(np.diff(holders.types) > 0)
        assert np.ptp(holders.probs) <= 1.01 / 101
        counted = np.diff(np.searchsorted(levels, holders.types, side="right"), prepend=0)
        np.testing.assert_allclose(counted / 101, holders.probs, atol=1e-14)


def test_groups_of_unequal_weights(tmp_path: Path) -> None:
    path = table(tmp_path, "privacy_level,n\n0.1,97\n0.2,1\n0.3,1\n0.4,1\n")
    holders = read_holders(path, weight="n", n_types=2)
    assert holders.types.tolist() == [0.1, 0.4] or holders.types.tolist() == [0.4]
    assert holders.probs.sum() == pytest.approx(1)
    mo.ScreeningContract(types=holders.types, probs=holders.probs).solve()
