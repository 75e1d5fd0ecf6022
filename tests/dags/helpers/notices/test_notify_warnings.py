from typing import Any

from pipeline_support import DAY, RUN_ID, RUN_KEY, Pipeline, Topic

from helpers.contract.keys import report_key
from helpers.delete_files_from_intermediate_bucket import delete_files_from_intermediate_bucket
from helpers.notices.notify_warnings import warning_message

CHECKS = [
    {"name": "rejected_rows", "value": 3, "limit": 0, "verdict": "warned", "message": "3 rows went"},
    {"name": "old_days", "value": 0, "limit": 0, "verdict": "passed", "message": ""},
]


def report(checks: list[dict[str, Any]], rejected: int = 3) -> dict[str, Any]:
    return {
        "run_key": RUN_KEY,
        "dag_run_id": RUN_ID,
        "status": "complete",
        "completed_at": f"{DAY}T12:00:00+00:00",
        "reprocess_dates": [],
        "totals": {"quarantined": 0, "rejected": rejected},
        "checks": checks,
        "files": [],
    }


def test_message_has_the_reasons_the_report_and_the_next_step() -> None:
    subject, message = warning_message(report(CHECKS), "https://report")

    assert subject == "music_streaming_pipeline: 1 check to look at"
    assert message.splitlines() == [
        "Check:  warned: 3 rows went",
        f"Next:   make redrive RUN={RUN_KEY} (without make: python -m include.redrive {RUN_KEY}) fetches "
        "the quarantined files and puts the corrected ones back.",
        f"Run:    {RUN_ID} ended well; its KPIs are stored.",
        "Report: https://report",
    ]


def test_redrive_is_no_remedy_where_nothing_is_in_quarantine() -> None:
    _, message = warning_message(report(CHECKS, rejected=0), "https://report")

    assert "redrive" not in message


def test_one_message_is_sent_by_the_run_and_none_when_it_is_cleared(pipeline: Pipeline, topic: Topic) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), report(CHECKS))
    pipeline.put(pipeline.config.intermediate_bucket, f"runs/{RUN_KEY}/input/x", b"")

    for _ in range(2):
        delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    (message,) = topic.messages()
    assert "Check:  warned: 3 rows went" in message["Message"]


def test_run_whose_checks_all_passed_sends_nothing(pipeline: Pipeline, topic: Topic) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), report(CHECKS[1:]))
    pipeline.put(pipeline.config.intermediate_bucket, f"runs/{RUN_KEY}/input/x", b"")

    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert topic.messages() == []
