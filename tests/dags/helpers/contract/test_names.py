import pytest

from helpers.contract.names import is_csv, split_suffix


@pytest.mark.parametrize(
    ("key", "stem", "suffix"),
    [
        ("a.csv", "a", ".csv"),
        ("a.csv.gz", "a", ".csv.gz"),
        ("EXPORT.CSV", "EXPORT", ".CSV"),
        ("a.Csv.GZ", "a", ".Csv.GZ"),
    ],
)
def test_csv_files_are_recognized_by_their_suffix_in_any_case(key: str, stem: str, suffix: str) -> None:
    assert is_csv(key)
    assert split_suffix(key) == (stem, suffix)


@pytest.mark.parametrize("key", ["a.csv.tmp", "csv", "a.gz", "streams/", "a.csv/"])
def test_other_objects_are_not_csv_files(key: str) -> None:
    assert not is_csv(key)
    assert split_suffix(key) == (key, "")
