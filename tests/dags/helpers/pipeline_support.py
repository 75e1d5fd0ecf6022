"""A test's own pipeline in local AWS: its buckets, its table, and the results of earlier tasks."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from boto3.dynamodb.types import TypeDeserializer
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from pyarrow import parquet as pq

from helpers.contract.keys import history_prefix, input_prefix, output_prefix, run_key_of
from helpers.contract.records import MovedInput, ObjectVersion, ValidatedPart
from helpers.contract.settings import PipelineConfig
from helpers.extract_and_combine_streams import extract_and_combine_streams
from helpers.list_stream_files import list_stream_files
from helpers.move_files_to_intermediate_bucket import move_files_to_intermediate_bucket
from helpers.validate_csv_files import validate_csv_files
from local_aws_support import connect

RUN_ID = "manual__2024-06-26T00:00:00+00:00"
RUN_KEY = run_key_of(RUN_ID)
DAY = "2024-06-25"
FROZEN_AT = "2024-06-26T00:00:00+00:00"

SONGS = """\
track_id,track_name,artists,track_genre,duration_ms,popularity
t1,One,A,pop,60000,5
t2,Two,B,rock,90000,4
"""
USERS = """\
user_id,user_name,user_country
u1,Ann,Norway
u2,Bob,Chile
"""


def streams(*rows: str) -> str:
    """Return a stream file with these rows."""
    return "\n".join(("user_id,track_id,listen_time", *rows, ""))


GOOD = f"u1,t1,{DAY} 10:00:00"
BAD = "u1,t1,yesterday"


@dataclass
class Pipeline:
    """The buckets and the table of one test; the environment names them."""

    endpoint_url: str
    config: PipelineConfig
    s3: Any = field(init=False)
    dynamodb: Any = field(init=False)

    def __post_init__(self) -> None:
        self.s3, self.dynamodb = (connect(service, self.endpoint_url) for service in ("s3", "dynamodb"))

    def upload(self, key: str, content: str | bytes) -> ObjectVersion:
        """Upload an object to the source bucket; return its version."""
        body = content.encode() if isinstance(content, str) else content
        self.s3.put_object(Bucket=self.config.source_bucket, Key=key, Body=body)
        head = self.s3.head_object(Bucket=self.config.source_bucket, Key=key)
        return ObjectVersion(
            key=key,
            version_id=head.get("VersionId"),
            etag=head["ETag"],
            size=head["ContentLength"],
            last_modified=head["LastModified"].isoformat(),
        )

    def upload_catalogs(self, songs: str = SONGS, users: str = USERS) -> None:
        self.upload("songs/songs.csv", songs)
        self.upload("users/users.csv", users)

    def source_keys(self) -> list[str]:
        return list(self.objects(self.config.source_bucket))

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Return the content of every object under the prefix by key."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: self.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def archived(self, prefix: str = "") -> dict[str, bytes]:
        return self.objects(self.config.archive_bucket, prefix)

    def intermediate(self, prefix: str = f"runs/{RUN_KEY}/") -> dict[str, bytes]:
        """Return the run's temporary objects by key, without the run's prefix."""
        return {
            key.removeprefix(f"runs/{RUN_KEY}/"): content
            for key, content in self.objects(self.config.intermediate_bucket, prefix).items()
        }

    def intermediate_json(self, name: str) -> Any:
        return json.loads(self.intermediate()[name])

    def archived_json(self, key: str) -> Any:
        return json.loads(self.archived(key)[key])

    def put(self, bucket: str, key: str, content: Any) -> None:
        """Put an object; everything except bytes becomes JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def items(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the table's items by date and genre."""
        deserialize = TypeDeserializer().deserialize
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.config.kpi_table)
        items = [
            {name: deserialize(value) for name, value in item.items()} for p in pages for item in p["Items"]
        ]
        return {(item["date"], item["track_genre"]): item for item in items}

    def ingest(self, run_id: str = RUN_ID) -> list[ValidatedPart]:
        """Run a run's tasks up to its validated parts."""
        parts = list_stream_files(run_id, self.config)
        combined = [extract_and_combine_streams(part, self.config) for part in parts]
        return [validate_csv_files(part, self.config) for part in combined]

    def move(self, run_id: str = RUN_ID) -> MovedInput:
        """Run a run's tasks up to the Glue job's input."""
        return move_files_to_intermediate_bucket(run_id, self.ingest(run_id), self.config)

    def put_input_manifest(
        self,
        rows: int,
        run_id: str = RUN_ID,
        frozen_at: str = FROZEN_AT,
        reprocess_dates: Iterable[str] = (),
    ) -> None:
        """Write the input manifest of a run with that many valid rows, without the input itself."""
        run_key = run_key_of(run_id)
        catalog = {"objects": [], "rows": 1, "files": [], "notes": {}}
        manifest = {
            "run_key": run_key,
            "frozen_at": frozen_at,
            "listens": {"objects": [], "rows": rows},
            "songs": catalog,
            "users": catalog,
            "outcomes": [],
            "reprocess_dates": list(reprocess_dates),
            "checks": [],
            "accept_checks": False,
            "newest_day_before": None,
        }
        self.put(self.config.intermediate_bucket, f"{input_prefix(run_key)}manifest.json", manifest)

    def put_glue_output(
        self,
        days: Mapping[str, GlueDay],
        run_id: str = RUN_ID,
        records: Iterable[Mapping[str, Any]] | None = None,
        computed_at: str = "2024-06-26T01:00:00+00:00",
    ) -> dict[str, Any]:
        """Write the output of a Glue run that has computed these days; return its summary.

        Args:
            days: by day, as counted by Glue, on top of the current history.
            run_id: the DAG run.
            records: the KPI records, if they are not those of `days`.
            computed_at: time of the computation.
        """
        run_key = run_key_of(run_id)
        prefix = output_prefix(run_key)
        objects: dict[str, bytes] = {}
        for day, counted in days.items():
            if counted.new:
                name = f"listens/listen_date={day}/part-00000-{counted.file}.parquet"
                objects[name] = f"{counted.new} listens of {run_key}".encode()
        if records is None:
            records = [record for day, counted in days.items() for record in counted.records(day)]
        objects["kpis/part-00000.json"] = "".join(f"{json.dumps(record)}\n" for record in records).encode()
        for name, content in objects.items():
            self.put(self.config.intermediate_bucket, prefix + name, content)
        summary = {
            "batch_id": run_key,
            "computed_at": computed_at,
            "rows_read": sum(counted.new + counted.repeated for counted in days.values()),
            "new": sum(counted.new for counted in days.values()),
            "repeated": sum(counted.repeated for counted in days.values()),
            "days": {
                day: {
                    "rows_read": counted.new + counted.repeated,
                    "new": counted.new,
                    "repeated": counted.repeated,
                    "added": counted.new,
                    "total": counted.total,
                    "history_objects": [
                        key.rpartition("/")[2]
                        for key in sorted(self.archived(history_prefix(day)))
                        if key.endswith(".parquet")
                    ],
                }
                for day, counted in days.items()
            },
            "objects": {name: len(content) for name, content in objects.items()},
        }
        self.put(self.config.intermediate_bucket, f"{prefix}summary.json", summary)
        return summary


@dataclass
class GlueDay:
    """One day as a Glue run counted it; `genres` are listens by genre, over the day's whole history."""

    genres: Mapping[str, int]
    new: int
    repeated: int = 0
    file: str = "a"

    @property
    def total(self) -> int:
        return sum(self.genres.values())

    def records(self, day: str) -> list[dict[str, Any]]:
        counts = {**self.genres, **({"ALL_GENRES": self.total} if self.total else {})}
        return [
            {
                "date": day,
                "track_genre": genre,
                "listen_count": count,
                "unique_listeners": 1,
                "total_listening_time": round(count * 2.57, 2),
                "avg_listening_time_per_user": round(count * 2.57, 2),
                **(
                    {"unmatched_track_listens": 0, "unmatched_user_listens": 0}
                    if genre == "ALL_GENRES"
                    else {}
                ),
            }
            for genre, count in counts.items()
        ]


def read_parquet(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


Send = Callable[[AWSPreparedRequest], AWSResponse]


@dataclass
class Wire:
    """The traffic to local AWS: a test sees the requests, drops responses or gives its own."""

    requests: list[AWSPreparedRequest] = field(default_factory=list)
    _rules: list[tuple[str, Callable[[AWSPreparedRequest, Send], AWSResponse]]] = field(default_factory=list)
    _answered: set[str] = field(default_factory=set)

    def handle(self, request: AWSPreparedRequest, send: Send) -> AWSResponse:
        self.requests.append(request)
        for index, (operation, rule) in enumerate(self._rules):
            if operation in described(request):
                del self._rules[index]
                self._answered.add(operation)
                return rule(request, send)
        return send(request)

    def once(self, operation: str, rule: Callable[[AWSPreparedRequest, Send], AWSResponse]) -> None:
        """Let `rule` answer the next request whose description contains `operation`."""
        self._rules.append((operation, rule))

    def never_asked_for(self) -> set[str]:
        """Return the operations whose prepared responses were never used."""
        return {operation for operation, _ in self._rules} - self._answered

    def count(self, operation: str) -> int:
        return sum(operation in described(request) for request in self.requests)


def described(request: AWSPreparedRequest) -> str:
    """Return a description such as `AWSGlue.StartJobRun` or `PUT http://…/bucket/key`."""
    target = request.headers.get("X-Amz-Target", "")
    target = target.decode() if isinstance(target, bytes) else target
    return target or f"{request.method} {request.url}"


def answer(status: int, body: str = "") -> Callable[[AWSPreparedRequest, Send], AWSResponse]:
    """Answer without calling AWS."""
    return lambda request, send: make_response(request, status, body)


def answer_after_commit(status: int) -> Callable[[AWSPreparedRequest, Send], AWSResponse]:
    """Let AWS execute the request and answer with another status."""

    def rule(request: AWSPreparedRequest, send: Send) -> AWSResponse:
        send(request)
        return make_response(request, status)

    return rule


def fail_after_commit(error: Exception) -> Callable[[AWSPreparedRequest, Send], AWSResponse]:
    """Let AWS execute the request and drop its response."""

    def rule(request: AWSPreparedRequest, send: Send) -> AWSResponse:
        send(request)
        raise error

    return rule


def fail(error: Exception) -> Callable[[AWSPreparedRequest, Send], AWSResponse]:
    """Drop the request."""

    def rule(request: AWSPreparedRequest, send: Send) -> AWSResponse:
        raise error

    return rule


class _Body(io.BytesIO):
    def stream(self) -> Iterable[bytes]:
        yield self.read()


def make_response(request: AWSPreparedRequest, status: int, body: str = "") -> AWSResponse:
    return AWSResponse(request.url, status, {"Content-Type": "application/xml"}, _Body(body.encode()))


@dataclass
class Topic:
    arn: str
    sqs: Any
    queue_url: str

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived at a subscriber of the topic."""
        received = self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in received.get("Messages", [])]
