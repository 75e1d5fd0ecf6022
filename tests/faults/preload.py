"""What the process does once, from which the attempts are forked."""

from tests.faults.attempt_process import warm_up

warm_up()
