import hashlib
import json
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, ConnectionClosedError
from pipeline_support import Pipeline, Wire, answer, answer_after_commit, fail_after_commit

from helpers.aws import s3_objects
from helpers.aws.clients import s3_client
from helpers.aws.s3_objects import (
    HashedBody,
    UnreadableObjectError,
    copy_verified,
    delete_objects,
    list_current_versions,
    list_sizes,
    open_version,
    read_json,
    write_json,
    write_json_once,
)
from helpers.contract.records import ObjectVersion
from helpers.errors import ReconciliationError, RetryableError

KEY = "streams/a b+ü%[1]*.csv"


@pytest.fixture
def s3(pipeline: Pipeline) -> Any:
    """The client that the helpers use."""
    return s3_client()


def limit_pages(s3: Any, operation: str, size: int) -> None:
    s3.meta.events.register(
        f"provide-client-params.s3.{operation}", lambda params, **_: params | {"MaxKeys": size}
    )


class TestListCurrentVersions:
    def test_objects_are_listed_with_their_current_version(self, pipeline: Pipeline, s3: Any) -> None:
        pipeline.upload("streams/b.csv", "old")
        versions = [pipeline.upload("streams/a.csv", "1"), pipeline.upload("streams/b.csv", "new one")]
        pipeline.upload("songs/a.csv", "elsewhere")

        assert list_current_versions(s3, pipeline.config.source_bucket, "streams/") == versions
        assert versions[1]["size"] == 7

    def test_deleted_objects_are_left_out(self, pipeline: Pipeline, s3: Any) -> None:
        pipeline.upload("streams/a.csv", "1")
        kept = pipeline.upload("streams/b.csv", "2")
        pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key="streams/a.csv")

        assert list_current_versions(s3, pipeline.config.source_bucket, "streams/") == [kept]

    def test_object_that_came_again_after_its_deletion_is_listed(self, pipeline: Pipeline, s3: Any) -> None:
        pipeline.upload(KEY, "1")
        pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key=KEY)
        again = pipeline.upload(KEY, "1")

        assert list_current_versions(s3, pipeline.config.source_bucket, "streams/") == [again]

    def test_bucket_without_versioning_has_no_version_ids(self, make_pipeline: Any) -> None:
        pipeline = make_pipeline(versioned=False)
        pipeline.upload(KEY, "old")
        current = pipeline.upload(KEY, "new")

        listed = list_current_versions(s3_client(), pipeline.config.source_bucket, "streams/")

        assert listed == [current]
        assert listed[0]["version_id"] is None

    def test_objects_of_all_pages_are_listed(self, pipeline: Pipeline, s3: Any) -> None:
        limit_pages(s3, "ListObjectVersions", 3)
        for number in range(10):
            pipeline.upload(f"streams/{number}.csv", "old")
            pipeline.upload(f"streams/{number}.csv", "new")

        listed = list_current_versions(s3, pipeline.config.source_bucket, "streams/")

        assert [version["key"] for version in listed] == [f"streams/{number}.csv" for number in range(10)]

    def test_nothing_is_an_empty_list(self, pipeline: Pipeline, s3: Any) -> None:
        assert list_current_versions(s3, pipeline.config.source_bucket, "streams/") == []


def test_sizes_of_all_pages_are_listed(pipeline: Pipeline, s3: Any) -> None:
    limit_pages(s3, "ListObjectsV2", 3)
    for number in range(10):
        pipeline.upload(f"streams/{number}.csv", "x" * number)

    sizes = list_sizes(s3, pipeline.config.source_bucket, "streams/")

    assert sizes == {f"streams/{number}.csv": number for number in range(10)}


class TestOpenVersion:
    @pytest.mark.parametrize("then", ["overwritten", "deleted"])
    def test_listed_version_is_read_whatever_happened_since(
        self, pipeline: Pipeline, s3: Any, then: str
    ) -> None:
        version = pipeline.upload(KEY, "listed")
        if then == "overwritten":
            pipeline.upload(KEY, "newer")
        else:
            pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key=KEY)

        body = open_version(s3, pipeline.config.source_bucket, version)

        assert body is not None
        assert body.read() == b"listed"

    @pytest.mark.parametrize("then", ["overwritten", "deleted"])
    def test_version_that_an_unversioned_bucket_lost_is_none(self, make_pipeline: Any, then: str) -> None:
        pipeline = make_pipeline(versioned=False)
        version = pipeline.upload(KEY, "listed")
        if then == "overwritten":
            pipeline.upload(KEY, "newer")
        else:
            pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key=KEY)

        assert open_version(s3_client(), pipeline.config.source_bucket, version) is None

    def test_unchanged_object_of_an_unversioned_bucket_is_read(self, make_pipeline: Any) -> None:
        pipeline = make_pipeline(versioned=False)
        version = pipeline.upload(KEY, "listed")

        body = open_version(s3_client(), pipeline.config.source_bucket, version)

        assert body is not None
        assert body.read() == b"listed"

    def test_version_that_was_deleted_for_good_is_none(self, pipeline: Pipeline, s3: Any) -> None:
        version = pipeline.upload(KEY, "listed")
        pipeline.s3.delete_object(
            Bucket=pipeline.config.source_bucket, Key=KEY, VersionId=version["version_id"]
        )

        assert open_version(s3, pipeline.config.source_bucket, version) is None

    def test_denied_access_is_not_reported_as_a_missing_object(
        self, pipeline: Pipeline, s3: Any, wire: Wire
    ) -> None:
        version = pipeline.upload(KEY, "listed")
        wire.once("GET", answer(403, "<Error><Code>AccessDenied</Code></Error>"))

        with pytest.raises(UnreadableObjectError, match="access denied"):
            open_version(s3, pipeline.config.source_bucket, version)


class TestJson:
    def test_written_value_is_read(self, pipeline: Pipeline, s3: Any) -> None:
        bucket, value = pipeline.config.archive_bucket, {"name": "東京", "numbers": [1, None, 2.5]}
        write_json(s3, bucket, "a.json", {"old": True})
        write_json(s3, bucket, "a.json", value)

        assert read_json(s3, bucket, "a.json") == value

    def test_missing_object_is_none(self, pipeline: Pipeline, s3: Any) -> None:
        assert read_json(s3, pipeline.config.archive_bucket, "a.json") is None

    def test_denied_access_is_not_reported_as_a_missing_object(
        self, pipeline: Pipeline, s3: Any, wire: Wire
    ) -> None:
        wire.once("GET", answer(403, "<Error><Code>AccessDenied</Code></Error>"))

        with pytest.raises(ClientError, match="AccessDenied"):
            read_json(s3, pipeline.config.archive_bucket, "a.json")

    def test_second_writer_gets_what_the_first_wrote(self, pipeline: Pipeline, s3: Any) -> None:
        bucket = pipeline.config.archive_bucket

        assert write_json_once(s3, bucket, "a.json", {"writer": 1}) == {"writer": 1}
        assert write_json_once(s3, bucket, "a.json", {"writer": 2}) == {"writer": 1}
        assert read_json(s3, bucket, "a.json") == {"writer": 1}

    @pytest.mark.parametrize(
        "loss",
        [
            pytest.param(answer_after_commit(503), id="503"),
            pytest.param(fail_after_commit(ConnectionClosedError(endpoint_url="s3")), id="connection closed"),
        ],
    )
    def test_writer_whose_response_was_lost_gets_its_own_value(
        self, pipeline: Pipeline, s3: Any, wire: Wire, loss: Any
    ) -> None:
        wire.once("PUT", loss)

        assert write_json_once(s3, pipeline.config.archive_bucket, "a.json", {"writer": 1}) == {"writer": 1}
        assert wire.count("PUT") == 2

    def test_writer_that_comes_second_gets_a_retryable_error(
        self, pipeline: Pipeline, s3: Any, wire: Wire
    ) -> None:
        wire.once("PUT", answer(409, "<Error><Code>ConditionalRequestConflict</Code></Error>"))

        with pytest.raises(RetryableError, match=r"a\.json is being written by another task"):
            write_json_once(s3, pipeline.config.archive_bucket, "a.json", {"writer": 1})

    def test_denied_access_is_an_error(self, pipeline: Pipeline, s3: Any, wire: Wire) -> None:
        wire.once("PUT", answer(403, "<Error><Code>AccessDenied</Code></Error>"))

        with pytest.raises(ClientError, match="AccessDenied"):
            write_json_once(s3, pipeline.config.archive_bucket, "a.json", {})


def upload_in_parts(pipeline: Pipeline, bucket: str, key: str, content: str) -> None:
    """Upload such that neither ETag nor checksum describes the whole content."""
    place = {"Bucket": bucket, "Key": key}
    upload_id = pipeline.s3.create_multipart_upload(**place)["UploadId"]
    part = pipeline.s3.upload_part(**place, UploadId=upload_id, PartNumber=1, Body=content.encode())
    pipeline.s3.complete_multipart_upload(
        **place,
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert pipeline.s3.head_object(**place)["ETag"].endswith('-1"')


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def test_digest_is_that_of_the_whole_object_however_little_of_it_was_read(
    pipeline: Pipeline, s3: Any
) -> None:
    version = pipeline.upload(KEY, "content")
    body = open_version(s3, pipeline.config.source_bucket, version)
    assert body is not None
    hashed = HashedBody(body)

    assert hashed.read(3) == b"con"
    assert hashed.sha256() == digest("content")


class TestCopyVerified:
    def copy(self, pipeline: Pipeline, s3: Any, version: ObjectVersion, **arguments: Any) -> None:
        destination = (pipeline.config.archive_bucket, f"copy/{KEY}")
        copy_verified(s3, pipeline.config.source_bucket, version, destination, **arguments)

    def listed(self, pipeline: Pipeline, s3: Any) -> ObjectVersion:
        """Return the current version as a run lists it."""
        [version] = list_current_versions(s3, pipeline.config.source_bucket, KEY)
        return version

    def copied(self, pipeline: Pipeline) -> bytes:
        return pipeline.archived()[f"copy/{KEY}"]

    def test_current_object_is_copied_and_stays(self, pipeline: Pipeline, s3: Any) -> None:
        version = pipeline.upload(KEY, "content")

        self.copy(pipeline, s3, version)

        assert self.copied(pipeline) == b"content"
        assert pipeline.source_keys() == [KEY]

    def test_named_version_is_copied_though_there_is_a_newer_one(self, pipeline: Pipeline, s3: Any) -> None:
        version = pipeline.upload(KEY, "older")
        pipeline.upload(KEY, "newer")

        self.copy(pipeline, s3, version)

        assert self.copied(pipeline) == b"older"

    def test_storage_class_is_the_requested_one(self, pipeline: Pipeline, s3: Any) -> None:
        version = pipeline.upload(KEY, "content")

        self.copy(pipeline, s3, version, StorageClass="GLACIER_IR")

        listed = pipeline.s3.list_objects_v2(Bucket=pipeline.config.archive_bucket)["Contents"]
        assert [entry["StorageClass"] for entry in listed] == ["GLACIER_IR"]

    def test_object_that_is_too_large_for_one_copy_is_copied_in_parts(
        self, pipeline: Pipeline, s3: Any, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = "0123456789abcdef" * 700_000
        version = pipeline.upload(KEY, content)
        pipeline.upload(KEY, "newer")
        part = 6 * 1024**2
        monkeypatch.setattr(s3_objects, "MAX_COPY_BYTES", len(content) - 1)
        config = TransferConfig(multipart_threshold=1, multipart_chunksize=part)
        monkeypatch.setattr(s3_objects, "_COPY_IN_PARTS", config)

        self.copy(pipeline, s3, version)

        assert self.copied(pipeline) == content.encode()
        assert sum("partNumber" in request.url for request in wire.requests) == -(-len(content) // part)

    def test_copy_takes_two_requests(self, pipeline: Pipeline, s3: Any, wire: Wire) -> None:
        version = pipeline.upload(KEY, "content")
        wire.requests.clear()

        self.copy(pipeline, s3, version, sha256=digest("content"))

        assert [request.method for request in wire.requests] == ["PUT", "HEAD"]

    def test_object_that_was_replaced_since_it_was_listed_is_not_copied(
        self, pipeline: Pipeline, s3: Any
    ) -> None:
        version = pipeline.upload(KEY, "content")
        pipeline.upload(KEY, "another")

        with pytest.raises(ClientError, match="PreconditionFailed"):
            self.copy(pipeline, s3, version | {"version_id": None})

        assert pipeline.archived() == {}

    @pytest.mark.parametrize("other", ["CONTENT", "of another size"])
    def test_destination_with_other_content_is_replaced(
        self, pipeline: Pipeline, s3: Any, other: str
    ) -> None:
        version = pipeline.upload(KEY, "content")
        pipeline.put(pipeline.config.archive_bucket, f"copy/{KEY}", other.encode())

        self.copy(pipeline, s3, version)

        assert self.copied(pipeline) == b"content"

    def test_file_whose_etag_says_nothing_is_compared_by_its_content(
        self, pipeline: Pipeline, s3: Any, wire: Wire
    ) -> None:
        """This happens with multipart uploads and under KMS."""
        upload_in_parts(pipeline, pipeline.config.source_bucket, KEY, "content")
        version = self.listed(pipeline, s3)
        wire.requests.clear()

        self.copy(pipeline, s3, version)

        assert wire.count("GET") == 2, "the file and its copy were read"
        assert self.copied(pipeline) == b"content"

    def test_file_of_a_known_digest_is_not_read_back(self, pipeline: Pipeline, s3: Any, wire: Wire) -> None:
        upload_in_parts(pipeline, pipeline.config.source_bucket, KEY, "content")
        version = self.listed(pipeline, s3)
        wire.requests.clear()

        self.copy(pipeline, s3, version, sha256=digest("content"))

        assert wire.count("GET") == 0
        assert self.copied(pipeline) == b"content"

    def test_copy_whose_digest_is_another_is_an_error(self, pipeline: Pipeline, s3: Any) -> None:
        upload_in_parts(pipeline, pipeline.config.source_bucket, KEY, "content")
        version = self.listed(pipeline, s3)

        with pytest.raises(ReconciliationError, match="is not equal to its source"):
            self.copy(pipeline, s3, version, sha256=digest("CONTENT"))

        assert pipeline.source_keys() == [KEY]

    @pytest.mark.parametrize("spoilt", [b"CONTENT", b"cont", None], ids=["bytes", "size", "no copy"])
    def test_copy_that_differs_from_its_source_is_an_error_and_the_source_stays(
        self, pipeline: Pipeline, s3: Any, monkeypatch: pytest.MonkeyPatch, spoilt: bytes | None
    ) -> None:
        version = pipeline.upload(KEY, "content")

        def spoil(Bucket: str, Key: str, **_: Any) -> None:
            if spoilt is not None:
                pipeline.put(Bucket, Key, spoilt)

        monkeypatch.setattr(s3, "copy_object", spoil)

        with pytest.raises(ReconciliationError, match=r"is not equal to its source .* is left where it is"):
            self.copy(pipeline, s3, version)

        assert pipeline.objects(pipeline.config.source_bucket) == {KEY: b"content"}

    def test_missing_source_is_an_error(self, pipeline: Pipeline, s3: Any) -> None:
        version = pipeline.upload(KEY, "content")
        pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key=KEY)

        with pytest.raises(ClientError, match="NoSuchKey"):
            self.copy(pipeline, s3, version | {"version_id": None})


class TestDeleteObjects:
    def test_named_objects_are_deleted_and_no_others(self, pipeline: Pipeline, s3: Any) -> None:
        for key in ("a", KEY, "ab"):
            pipeline.upload(key, "content")

        delete_objects(s3, pipeline.config.source_bucket, ["a", KEY])

        assert pipeline.source_keys() == ["ab"]

    def test_more_than_a_thousand_are_deleted_in_several_calls(
        self, pipeline: Pipeline, s3: Any, wire: Wire
    ) -> None:
        keys = [f"key-{number}" for number in range(2001)]
        for key in (keys[0], keys[1000], keys[2000], "other"):
            pipeline.upload(key, "content")

        delete_objects(s3, pipeline.config.source_bucket, keys)

        assert pipeline.source_keys() == ["other"]
        assert wire.count("?delete") == 3

    def test_nothing_to_delete_needs_no_call(self, pipeline: Pipeline, s3: Any, wire: Wire) -> None:
        delete_objects(s3, pipeline.config.source_bucket, [])

        assert wire.requests == []

    def test_object_that_was_not_deleted_is_an_error_though_the_answer_is_200(
        self, pipeline: Pipeline, s3: Any, wire: Wire
    ) -> None:
        refusal = (
            '<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error><Key>b</Key>'
            "<Code>AccessDenied</Code><Message>not yours</Message></Error></DeleteResult>"
        )
        wire.once("?delete", answer(200, refusal))

        with pytest.raises(RetryableError, match=r"^1 object not deleted from .*, first b: AccessDenied not"):
            delete_objects(s3, pipeline.config.source_bucket, ["a", "b"])


def test_json_in_a_bucket_is_readable_for_people(pipeline: Pipeline, s3: Any) -> None:
    write_json(s3, pipeline.config.archive_bucket, "a.json", {"name": "東京"})

    content = pipeline.archived()["a.json"].decode()

    assert "東京" in content
    assert json.loads(content) == {"name": "東京"}
