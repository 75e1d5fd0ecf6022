"""Each unit test named here fails when its safeguard is removed from the source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import mutations_of_files, mutations_of_runs
from tests.faults.mutation import MutatedTests, Mutation
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


@pytest.fixture(scope="module")
def mutated_tests(local_aws: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MutatedTests]:
    tests = MutatedTests(local_aws, tmp_path_factory.mktemp("airflow"))
    yield tests
    tests.close()


@pytest.mark.scenarios
@pytest.mark.parametrize("mutation", [pytest.param(mutation, id=name) for name, mutation in MUTATIONS])
def test_test_fails_when_it_is_off_that(
    mutation: Mutation, tmp_path: Path, mutated_tests: MutatedTests
) -> None:
    exit_code, output = mutated_tests.run(mutation, tmp_path)

    assert exit_code == pytest.ExitCode.TESTS_FAILED, output
    assert mutation.failure in output
