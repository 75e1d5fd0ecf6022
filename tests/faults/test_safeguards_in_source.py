"""Each unit test named here fails when its safeguard is removed from the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import mutations_of_files, mutations_of_runs
from tests.faults.mutation import Mutation, run_test_of_mutated_source
from tests.faults.test_safeguards import STORIES
from tests.scenarios import NAMES

MUTATIONS = [*mutations_of_files.MUTATIONS.items(), *mutations_of_runs.MUTATIONS.items()]
WITHOUT_SAFEGUARD = {
    8: "S3 itself lists an upload only once it is complete",
    39: "items go in transactions, which leave none unprocessed: BatchWriteItem is not used",
}


def test_every_scenario_has_a_safeguard_that_is_switched_off_unless_none_is_ours() -> None:
    guarded = {number for _, mutation in MUTATIONS for number in mutation.scenarios}
    guarded |= {number for _, _, scenarios in STORIES.values() for number in scenarios}

    assert guarded == NAMES.keys() - WITHOUT_SAFEGUARD.keys()


@pytest.mark.scenarios
@pytest.mark.parametrize("mutation", [pytest.param(mutation, id=name) for name, mutation in MUTATIONS])
def test_test_fails_when_it_is_off_that(mutation: Mutation, tmp_path: Path, local_aws: str) -> None:
    process = run_test_of_mutated_source(mutation, tmp_path, local_aws)

    assert process.returncode == pytest.ExitCode.TESTS_FAILED, process.stdout
    assert mutation.failure in process.stdout
