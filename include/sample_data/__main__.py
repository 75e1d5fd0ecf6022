"""Command line of the sample data: `python -m include.sample_data OUT_DIR --listens 34000`."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Sequence

from include.sample_data import SampleData, write_sample_data


def main(argv: Sequence[str] | None = None) -> int:
    """Write a sample and print what was planted; return 0, or 2 for a wrong argument."""
    parser = argparse.ArgumentParser(
        prog="python -m include.sample_data",
        description="Write sample stream, song and user files in the shape of a real delivery.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out_dir", metavar="OUT_DIR", help="new or empty, or an earlier sample")
    defaults = inspect.signature(write_sample_data).parameters
    for name, meaning in (
        ("listens", "rows over all stream files"),
        ("days", "listen days"),
        ("tracks", "tracks that can be listened to"),
        ("users", "rows of users.csv"),
        ("seed", "same seed and sizes, same bytes"),
    ):
        parser.add_argument(f"--{name}", type=int, default=defaults[name].default, help=meaning)
    arguments = parser.parse_args(argv)
    try:
        planted = write_sample_data(**vars(arguments))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(_summary(arguments.out_dir, planted))
    return 0


def _summary(out_dir: str, planted: SampleData) -> str:
    late, misnamed = planted.late_file, planted.misnamed_file
    first_day, last_day = min(planted.days), max(planted.days)
    return f"""Written to {out_dir}:
  streams  {len(planted.stream_files)} files, {planted.rows:,} rows, {first_day} to {last_day}
           {planted.broken_rows:,} broken rows, {planted.repeated_rows:,} repeated rows, \
{planted.distinct_listens:,} distinct listens
           late: {late.name}, {late.rows:,} rows of {first_day}
           to be quarantined: {misnamed.name}, {misnamed.rows:,} rows, no listen_time column
  songs    {planted.song_rows:,} rows, {planted.tracks_with_two_genres:,} tracks under two genres, \
{planted.tracks_not_in_catalog:,} tracks missing
  users    {planted.user_rows:,} rows"""


if __name__ == "__main__":
    sys.exit(main())
