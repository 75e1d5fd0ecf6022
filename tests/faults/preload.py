"""One-time imports of the process from which the attempts are forked."""

from tests.faults.attempt_process import warm_up

warm_up()
